/**
 * A drive that is as slow as a real one: requests are served one after the other, each for a fixed
 * time and the time that its bytes take, and are answered a while after that.
 *
 *   starts = max(now, when the one before was served)
 *   served = starts + perRequest + bytes / rate          answered = served + latency
 *
 * Below it is a memory file. What is measured over it is what a job makes of drives that are the
 * limit, and what a client's request waits behind, without the noise of a shared disk.
 */
import type { OpenDrive } from "../../src/array/protocol.ts";
import type { DriveDevice } from "../../src/array/reactor-context.ts";
import { assert } from "../../src/base/assert.ts";
import type { CompletionHandler } from "../../src/block/device.ts";
import type { IoTable } from "../../src/reactor/io-table.ts";
import type { LinuxReactor } from "../../src/wiring/linux-context.ts";
import { stopwatch } from "./stopwatch.ts";

export interface Pace {
  readonly bytesPerSecond: number;
  readonly perRequestMicros: number;
  readonly latencyMicros: number;
}

interface Served {
  readonly request: number;
  readonly answerNs: number;
  result: number | null;
}

export class PacedDevice implements DriveDevice {
  onComplete: CompletionHandler = () => assert(false, "the layer above takes completions");
  private readonly below: DriveDevice;
  private readonly table: IoTable;
  private readonly pace: Pace;
  private readonly queue: Served[] = [];
  private readonly byRequest = new Map<number, Served>();
  private servedNs = 0;

  constructor(below: DriveDevice, table: IoTable, pace: Pace) {
    this.below = below;
    this.table = table;
    this.pace = pace;
    below.onComplete = (request, result) => {
      this.byRequest.get(request)!.result = result;
    };
  }

  get name(): string {
    return this.below.name;
  }
  get sizeBytes(): number {
    return this.below.sizeBytes;
  }
  get logicalBlockBytes(): number {
    return this.below.logicalBlockBytes;
  }
  get outstanding(): number {
    return this.queue.length;
  }

  cancelQueuedWrites(errno: number): number {
    return this.below.cancelQueuedWrites(errno);
  }

  close(): void {
    this.below.close();
  }

  submit(request: number): void {
    const { bytesPerSecond, perRequestMicros, latencyMicros } = this.pace;
    const bytes = this.table.bytes[request]!;
    const takesNs = perRequestMicros * 1_000 + (bytes * 1e9) / bytesPerSecond;
    this.servedNs = Math.max(stopwatch.nowNs(), this.servedNs) + takesNs;
    const answerNs = this.servedNs + latencyMicros * 1_000;
    const served: Served = { request, answerNs, result: null };
    this.queue.push(served);
    this.byRequest.set(request, served);
    this.below.submit(request);
  }

  /** Answers what is due: once a turn. */
  turn(): void {
    const nowNs = stopwatch.nowNs();
    for (;;) {
      const first = this.queue[0];
      if (first === undefined || first.result === null || first.answerNs > nowNs) return;
      this.queue.shift();
      this.byRequest.delete(first.request);
      this.onComplete(first.request, first.result);
    }
  }
}

/** From now on all drives of the reactor are this slow. */
export function slowDown({ context, reactor }: LinuxReactor, pace: Pace): void {
  const devices: PacedDevice[] = [];
  const { openDevice } = context;
  Object.assign(context, {
    openDevice: (drive: OpenDrive) => {
      const device = new PacedDevice(openDevice(drive), context.table, pace);
      devices.push(device);
      return device;
    },
  });
  const turn = () => {
    for (const device of devices) device.turn();
  };
  reactor.onTurn(turn, () => devices.some(({ outstanding }) => outstanding > 0));
}
