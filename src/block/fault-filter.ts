/**
 * Fault injection, as a filter right above the aio device: what it makes up passes the statistics
 * and the real error handler.
 *
 * `at: "submit"` answers as if io_submit had refused the request (it never runs below);
 * `at: "completion"` lets it run and changes the answer. A read whose answer is changed has the
 * bytes that it must not use overwritten, so that whoever uses them is found out.
 */

import type { SharedMemory } from "../base/memory.ts";
import { ROW_BYTES, roundDown } from "../base/units.ts";
import { type IoTable, OP_NAMES, Op } from "../reactor/io-table.ts";
import type { Timers } from "../reactor/timers.ts";
import type { BlockDevice, CompletionHandler } from "./device.ts";
import { Filter } from "./filter.ts";
import { submitFailure } from "./io-error.ts";

export interface FaultRule {
  readonly op: "read" | "write" | "flush" | "any";
  readonly at: "submit" | "completion";
  readonly errno: number | null;
  readonly offset: number;
  /** Infinity: to the end. */
  readonly bytes: number;
  readonly count: number;
  readonly every: number;
  readonly untilWritten: boolean;
  readonly delayMs: number;
  readonly resultBytes: number | null;
}

/** A rule that is in force, with its counters. */
interface ActiveRule {
  readonly id: number;
  readonly rule: FaultRule;
  matched: number;
  injected: number;
  /** With `untilWritten`: rows that were written and are good again. */
  readonly curedRows: Set<number>;
}

const POISON = 0xdb;

export class FaultFilter extends Filter implements BlockDevice {
  onComplete: CompletionHandler = () => {};
  private readonly table: IoTable;
  private readonly timers: Timers;
  private readonly memory: SharedMemory;
  private rules: ActiveRule[] = [];
  /** The rule that will change a request's completion. */
  private readonly armed = new Map<number, ActiveRule>();

  constructor(options: {
    next: BlockDevice;
    table: IoTable;
    timers: Timers;
    memory: SharedMemory;
  }) {
    super(options.next);
    this.table = options.table;
    this.timers = options.timers;
    this.memory = options.memory;
  }

  add(id: number, rule: FaultRule): void {
    this.rules.push({ id, rule, matched: 0, injected: 0, curedRows: new Set() });
  }

  remove(id: number): void {
    this.rules = this.rules.filter((active) => active.id !== id);
  }

  injectedBy(id: number): number {
    return this.rules.find((active) => active.id === id)?.injected ?? 0;
  }

  override submit(request: number): void {
    if (this.rules.length === 0) {
      this.next.submit(request);
      return;
    }
    const active = this.takeRule(request);
    if (active === null) {
      this.next.submit(request);
      return;
    }
    if (active.rule.at === "completion") {
      this.armed.set(request, active);
      this.next.submit(request);
      return;
    }
    const { errno, delayMs } = active.rule;
    this.timers.scheduleAfter(delayMs, () => {
      if (errno === null) this.next.submit(request);
      else this.onComplete(request, submitFailure(errno));
    });
  }

  protected override completed(request: number, result: number): void {
    if (this.armed.size === 0 && this.rules.length === 0) {
      this.onComplete(request, result);
      return;
    }
    this.noteWritten(request, result);
    const active = this.armed.get(request);
    if (active === undefined) {
      this.onComplete(request, result);
      return;
    }
    this.armed.delete(request);
    const changed = this.changeResult(request, result, active.rule);
    if (active.rule.delayMs === 0) this.onComplete(request, changed);
    else this.timers.scheduleAfter(active.rule.delayMs, () => this.onComplete(request, changed));
  }

  private changeResult(request: number, result: number, rule: FaultRule): number {
    if (result < 0) return result;
    if (rule.errno === null && rule.resultBytes === null) return result;
    const moved = rule.errno === null ? rule.resultBytes! : 0;
    const address = this.table.address[request]!;
    if (this.table.op[request] === Op.read && moved < result) {
      this.memory.bytes.fill(POISON, address + moved, address + this.table.bytes[request]!);
    }
    return rule.errno === null ? moved : -rule.errno;
  }

  /** Counts the request against the first rule that it meets and that is not used up. */
  private takeRule(request: number): ActiveRule | null {
    for (const active of this.rules) {
      if (!this.matches(request, active)) continue;
      active.matched += 1;
      if ((active.matched - 1) % active.rule.every !== 0) continue;
      active.injected += 1;
      return active;
    }
    return null;
  }

  private matches(request: number, active: ActiveRule): boolean {
    const { rule } = active;
    if (active.injected >= rule.count) return false;
    const op = this.table.op[request]!;
    const name = op === Op.writeZeroes || op === Op.discard ? "write" : OP_NAMES[op];
    if (rule.op !== "any" && rule.op !== name) return false;
    if (op === Op.flush) return rule.resultBytes === null && rule.offset === 0;
    const offset = this.table.offset[request]!;
    const bytes = this.table.bytes[request]!;
    if (rule.resultBytes !== null && rule.resultBytes === bytes) return false;
    if (offset >= rule.offset + rule.bytes || offset + bytes <= rule.offset) return false;
    return !rule.untilWritten || this.touchesBadRow(offset, bytes, active);
  }

  private touchesBadRow(offset: number, bytes: number, active: ActiveRule): boolean {
    const { rule, curedRows } = active;
    const from = roundDown(Math.max(offset, rule.offset), ROW_BYTES);
    const to = Math.min(offset + bytes, rule.offset + rule.bytes);
    for (let row = from; row < to; row += ROW_BYTES) if (!curedRows.has(row)) return true;
    return false;
  }

  private noteWritten(request: number, result: number): void {
    const op = this.table.op[request]!;
    if (op !== Op.write && op !== Op.writeZeroes) return;
    const offset = this.table.offset[request]!;
    for (const { rule, curedRows } of this.rules) {
      if (!rule.untilWritten) continue;
      // Only rows of the rule, so that the set stays as small as its range.
      const from = Math.max(offset, roundDown(rule.offset, ROW_BYTES));
      const end = rule.offset + rule.bytes;
      for (let row = from; row < end && row + ROW_BYTES <= offset + result; row += ROW_BYTES) {
        curedRows.add(row);
      }
    }
  }
}
