/**
 * What every filter of a drive's stack is: a block device over another one, `next`, of the same
 * name, size and blocks, which sees each request on its way down and each answer on its way up.
 *
 *   RetryFilter -> StatsFilter -> FaultFilter -> AioDevice
 *
 * A filter says what it does with a request (`submit`) and with its answer (`completed`); it passes
 * them on itself, so that passing costs no more than the call.
 */
import type { BlockDevice } from "./device.ts";

export abstract class Filter {
  protected readonly next: BlockDevice;

  constructor(next: BlockDevice) {
    this.next = next;
    next.onComplete = (request, result) => this.completed(request, result);
  }

  get name(): string {
    return this.next.name;
  }

  get sizeBytes(): number {
    return this.next.sizeBytes;
  }

  get logicalBlockBytes(): number {
    return this.next.logicalBlockBytes;
  }

  abstract submit(request: number): void;

  /** Takes the answer of `next`: the number of bytes moved, or -errno. */
  protected abstract completed(request: number, result: number): void;
}
