/** Counts what passes: requests, bytes and time by operation. Plain counters, read on demand. */
import type { Clock } from "../base/clock.ts";
import { LatencyHistogram } from "../base/latency-histogram.ts";
import { type IoTable, Op } from "../reactor/io-table.ts";
import type { BlockDevice, CompletionHandler } from "./device.ts";
import { Filter } from "./filter.ts";

export class StatsFilter extends Filter implements BlockDevice {
  onComplete: CompletionHandler = () => {};
  /** By OpCode. */
  readonly count = new Float64Array(5);
  readonly bytes = new Float64Array(5);
  readonly milliseconds = new Float64Array(5);
  readonly latency = Array.from({ length: 5 }, () => new LatencyHistogram());
  inFlight = 0;
  /** Monotonic time of the last completion: shows that the drive is alive. */
  lastCompletionMs = 0;
  private longestReadMs = 0;
  private readonly table: IoTable;
  private readonly clock: Clock;
  private readonly submittedMs: Float64Array;

  constructor(options: { next: BlockDevice; table: IoTable; clock: Clock }) {
    super(options.next);
    this.table = options.table;
    this.clock = options.clock;
    this.submittedMs = new Float64Array(options.table.capacity);
  }

  /** Of the reads that have completed since this was asked the last time. */
  takeLongestReadMs(): number {
    const { longestReadMs } = this;
    this.longestReadMs = 0;
    return longestReadMs;
  }

  override submit(request: number): void {
    this.submittedMs[request] = this.clock.nowMs();
    this.inFlight += 1;
    this.next.submit(request);
  }

  protected override completed(request: number, result: number): void {
    const op = this.table.op[request]!;
    const nowMs = this.clock.nowMs();
    this.inFlight -= 1;
    this.lastCompletionMs = nowMs;
    this.count[op]! += 1;
    const tookMs = nowMs - this.submittedMs[request]!;
    this.milliseconds[op]! += tookMs;
    this.latency[op]!.note(tookMs);
    if (op === Op.read && tookMs > this.longestReadMs) this.longestReadMs = tookMs;
    if (result > 0 && op !== Op.flush) this.bytes[op]! += result;
    this.onComplete(request, result);
  }
}
