/**
 * A member drive through Linux AIO: the lowest block device of the product.
 *
 * It adds no policy. Results come as the kernel gave them; the filters above judge and retry. But a
 * drive that was pulled has no bytes any more, and Linux answers a write behind the end of a device
 * with ENOSPC (block/fops.c), which is no fault of a member (write-rules 20): it is ENXIO here.
 */
import { assert } from "../base/assert.ts";
import { ENOSPC, ENXIO } from "../base/errno.ts";
import { ROW_BYTES } from "../base/units.ts";
import type { AioQueue } from "../reactor/aio-queue.ts";
import type { IoTable } from "../reactor/io-table.ts";
import type { BlockDevice, CompletionHandler } from "./device.ts";

export class AioDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  onComplete: CompletionHandler;
  private readonly queue: AioQueue;
  private readonly handle: number;
  private readonly table: IoTable;
  private readonly sizeNow: () => number;

  constructor(options: {
    name: string;
    fd: number;
    sizeBytes: number;
    logicalBlockBytes: number;
    queue: AioQueue;
    table: IoTable;
    /** How many bytes it has by now. */
    sizeNow: () => number;
    /** iocbs with the kernel at most, below the device's own queue. */
    maxInFlight: number;
  }) {
    const { logicalBlockBytes, queue, fd, maxInFlight } = options;
    assert(logicalBlockBytes <= ROW_BYTES, "a row is at least one logical block");
    this.name = options.name;
    this.sizeBytes = options.sizeBytes;
    this.logicalBlockBytes = logicalBlockBytes;
    this.queue = queue;
    this.table = options.table;
    this.sizeNow = options.sizeNow;
    this.onComplete = () => assert(false, "the layer above takes completions");
    this.handle = queue.openDevice({
      fd,
      maxInFlight,
      onComplete: (request, result) => {
        const isPulled = result === -ENOSPC && this.endsBefore(request);
        this.onComplete(request, isPulled ? -ENXIO : result);
      },
    });
  }

  submit(request: number): void {
    this.queue.enqueue(this.handle, request);
  }

  /** Requests that were submitted here and not yet answered. */
  get outstanding(): number {
    return this.queue.outstanding(this.handle);
  }

  /** See AioQueue.cancelQueuedWrites: what the kernel has not got yet is answered `-errno`. */
  cancelQueuedWrites(errno: number): number {
    return this.queue.cancelQueuedWrites(this.handle, errno);
  }

  /** Lets go of the queue, with nothing outstanding (write-rules 10). The fd stays open. */
  close(): void {
    this.queue.closeDevice(this.handle);
  }

  private endsBefore(request: number): boolean {
    return this.table.offset[request]! + this.table.bytes[request]! > this.sizeNow();
  }
}
