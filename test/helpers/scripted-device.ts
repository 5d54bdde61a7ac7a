/**
 * A block device that answers when and as the test says, and remembers what it was asked.
 *
 * It checks the rule that hardware cannot: no request is submitted while an earlier submission of
 * it is outstanding.
 */
import { assert } from "../../src/base/assert.ts";
import type { BlockDevice, CompletionHandler } from "../../src/block/device.ts";
import type { IoTable, OpCode } from "../../src/reactor/io-table.ts";

export interface Submission {
  readonly request: number;
  readonly op: OpCode;
  readonly offset: number;
  readonly bytes: number;
  readonly address: number;
  readonly isFua: boolean;
}

export class ScriptedDevice implements BlockDevice {
  readonly name = "scripted";
  readonly sizeBytes = 1024 * 1024 * 1024;
  readonly logicalBlockBytes = 512;
  onComplete: CompletionHandler = () => {};
  readonly submissions: Submission[] = [];
  private readonly table: IoTable;
  private readonly outstanding = new Set<number>();

  constructor(table: IoTable) {
    this.table = table;
  }

  get outstandingCount(): number {
    return this.outstanding.size;
  }

  get last(): Submission {
    const last = this.submissions.at(-1);
    assert(last !== undefined, "something was submitted");
    return last;
  }

  submit(request: number): void {
    assert(!this.outstanding.has(request), "a request is outstanding once");
    this.outstanding.add(request);
    const { table } = this;
    this.submissions.push({
      request,
      op: table.op[request] as OpCode,
      offset: table.offset[request]!,
      bytes: table.bytes[request]!,
      address: table.address[request]!,
      isFua: table.isFua[request] === 1,
    });
  }

  /** Completes a request that is outstanding. */
  answer(request: number, result: number): void {
    assert(this.outstanding.delete(request), "only what is outstanding completes");
    this.onComplete(request, result);
  }

  /** Completes the latest submission with all of its bytes, or with `result`. */
  answerLast(result?: number): void {
    this.answer(this.last.request, result ?? this.last.bytes);
  }
}
