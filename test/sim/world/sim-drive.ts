/**
 * A simulated drive as the reactor opens it: the place of AioDevice. Requests queue up during a
 * turn and reach the drive together at its end, as one io_submit takes them; at most `maxInFlight`
 * are with the drive at a time.
 */

import type { DriveDevice } from "../../../src/array/reactor-context.ts";
import { assert } from "../../../src/base/assert.ts";
import type { CompletionHandler } from "../../../src/block/device.ts";
import { type IoTable, Op } from "../../../src/reactor/io-table.ts";
import type { SimDevice } from "./sim-device.ts";
import type { Simulation } from "./simulation.ts";

export interface SimDriveOptions {
  readonly device: SimDevice;
  readonly table: IoTable;
  readonly simulation: Simulation;
  readonly maxInFlight: number;
  /** Something waits for the end of a turn. */
  readonly onQueued: () => void;
  /** A completion has come. */
  readonly onActive: () => void;
}

export class SimDrive implements DriveDevice {
  onComplete: CompletionHandler = () => {};
  private readonly device: SimDevice;
  private readonly table: IoTable;
  private readonly simulation: Simulation;
  private readonly maxInFlight: number;
  private readonly onQueued: () => void;
  private readonly onActive: () => void;
  private queue: number[] = [];
  private inFlight = 0;
  private cancelled = 0;

  constructor(options: SimDriveOptions) {
    this.device = options.device;
    this.table = options.table;
    this.simulation = options.simulation;
    this.maxInFlight = options.maxInFlight;
    this.onQueued = options.onQueued;
    this.onActive = options.onActive;
    assert(this.device.outstandingCount === 0, "a drive is opened with nothing outstanding");
    this.device.onComplete = (request, result) => {
      this.inFlight -= 1;
      this.onActive();
      this.onComplete(request, result);
    };
  }

  get name(): string {
    return this.device.name;
  }

  get sizeBytes(): number {
    return this.device.sizeBytes;
  }

  get logicalBlockBytes(): number {
    return this.device.logicalBlockBytes;
  }

  get outstanding(): number {
    return this.queue.length + this.inFlight + this.cancelled;
  }

  submit(request: number): void {
    this.queue.push(request);
    this.onQueued();
  }

  /** At the end of a turn: what is queued goes to the drive. */
  submitQueued(): void {
    while (this.queue.length > 0 && this.inFlight < this.maxInFlight) {
      this.inFlight += 1;
      this.device.submit(this.queue.shift()!);
    }
  }

  cancelQueuedWrites(errno: number): number {
    const taken = this.queue.filter((request) => this.table.op[request] !== Op.read);
    this.queue = this.queue.filter((request) => this.table.op[request] === Op.read);
    this.cancelled += taken.length;
    for (const request of taken) {
      this.simulation.scheduleAfter(0, () => {
        this.cancelled -= 1;
        this.onActive();
        this.onComplete(request, -errno);
      });
    }
    return taken.length;
  }

  close(): void {
    assert(this.outstanding === 0, "a drive is closed with nothing outstanding");
  }
}
