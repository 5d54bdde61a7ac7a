/**
 * Reads that a member has not answered by the read deadline: answered from parity, in other rows.
 *
 * The hung request may still write into the rows that the client gave, at any time. So when all
 * other parts of the client's request are there, they are copied to a new run, the late rows are
 * reconstructed into it, and the client gets the new run in place of its own, which stays pinned
 * until the drive answers (write-rules 10). A request of the engine's own has no run to exchange: it
 * is answered ETIMEDOUT, and whoever asked takes another buffer.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { EIO, ETIMEDOUT } from "../../base/errno.ts";
import { ROW_BYTES, roundUp } from "../../base/units.ts";
import { INNER_CLIENT } from "../inner-requests.ts";
import type { CarefulRows } from "./careful-rows.ts";
import type { EngineParts } from "./row-parts.ts";

/** A part of a request that is late. */
export interface LateRead {
  readonly request: number;
  readonly stripe: number;
  /** Byte offset within the stripe's data. */
  readonly within: number;
  readonly bytes: number;
  /** Where its first byte was to go. */
  readonly address: number;
  /** The member that is there but does not answer, or -1. */
  readonly hungRole: number;
}

export class LateReads {
  private readonly parts: EngineParts;
  private readonly rows: CarefulRows;
  private readonly waiting = new Map<number, LateRead[]>();
  /** By where the data of a request lies now: the runs that are exchanged with its answer. */
  private readonly moved = new Map<number, { oldRun: number; newRun: number; runBytes: number }>();

  constructor(parts: EngineParts, rows: CarefulRows) {
    this.parts = parts;
    this.rows = rows;
  }

  add(read: LateRead): void {
    const { requests } = this.parts;
    assert(requests.parts[read.request]! > 0, "a late part is of an unanswered request");
    if (requests.client[read.request] === INNER_CLIENT) {
      requests.partFinished(read.request, ETIMEDOUT);
      return;
    }
    const reads = this.waiting.get(read.request);
    if (reads === undefined) this.waiting.set(read.request, [read]);
    else reads.push(read);
  }

  /** A read operation that met late answers. */
  addOp(op: number): void {
    const { ops } = this.parts;
    this.add({
      request: ops.request[op]!,
      stripe: ops.stripe[op]!,
      within: ops.within[op]!,
      bytes: ops.bytes[op]!,
      address: ops.address[op]!,
      hungRole: -1,
    });
  }

  /**
   * The next part of a request, of a member that reads go around, in a stripe that somebody has.
   * Always true.
   */
  takePart(
    request: number,
    stripe: number,
    within: number,
    bytes: number,
    address: number,
  ): boolean {
    this.parts.requests.parts[request]! += 1;
    this.parts.requests.splitBytes[request]! += bytes;
    this.add({ request, stripe, within, bytes, address, hungRole: this.parts.members.avoidedRole });
    return true;
  }

  /** Once a turn: answers the requests of which only late parts are left. */
  turn(): void {
    if (this.waiting.size === 0) return;
    for (const [request, reads] of this.waiting) {
      if (this.parts.requests.parts[request] !== reads.length) continue;
      this.waiting.delete(request);
      inBackground(this.answer(request, reads), this.parts.environment.guard);
    }
  }

  private async answer(request: number, reads: readonly LateRead[]): Promise<void> {
    const { payloadPool, kernels } = this.parts.environment;
    const { requests } = this.parts;
    const padBytes = requests.offset[request]! % ROW_BYTES;
    const runBytes = roundUp(padBytes + requests.bytes[request]!, ROW_BYTES);
    const oldRun = requests.address[request]! - padBytes;
    const newRun = await payloadPool.take(runBytes);
    kernels.copy(newRun, oldRun, runBytes);
    let status = 0;
    for (const read of reads) {
      status = Math.max(status, await this.reconstruct(read, newRun - oldRun));
    }
    const movedTo = newRun + padBytes;
    assert(requests.movedTo[request] === 0, "a request is moved once");
    assert(requests.parts[request] === reads.length, "only its late parts were left");
    this.moved.set(movedTo, { oldRun, newRun, runBytes });
    requests.movedTo[request] = movedTo;
    for (const _ of reads) this.parts.requests.partFinished(request, status);
  }

  /** With the answer, and not before: the new run is the client's, and the old one not any more. */
  handOver(movedTo: number): void {
    const { payloadPool } = this.parts.environment;
    const runs = this.moved.get(movedTo);
    assert(runs !== undefined, "a run is handed over once");
    this.moved.delete(movedTo);
    payloadPool.handOver(runs.newRun, runs.runBytes);
    payloadPool.free(runs.oldRun, runs.runBytes);
  }

  private async reconstruct(read: LateRead, shift: number): Promise<number> {
    const rowsPerChunk = this.parts.geometry.chunkBytes / ROW_BYTES;
    const first = Math.floor(read.within / ROW_BYTES);
    const end = Math.ceil((read.within + read.bytes) / ROW_BYTES);
    const firstAddress = read.address - (read.within % ROW_BYTES) + shift;
    const giveUp = await this.enter(read);
    const buffers = await this.rows.takeBuffers();
    let status = 0;
    for (let linear = first; linear < end; linear += 1) {
      const place = { stripe: read.stripe, row: linear % rowsPerChunk };
      const role = this.parts.geometry.dataRole(read.stripe, Math.floor(linear / rowsPerChunk));
      const target = firstAddress + (linear - first) * ROW_BYTES;
      const isHung = role === read.hungRole;
      let answer = isHung ? await this.rows.readWithout(place, role, target, buffers) : EIO;
      // Another member has left meanwhile: then only the late one has the row, and is waited for.
      if (answer !== 0) answer = await this.rows.read(place, role, target, buffers);
      status = Math.max(status, answer);
    }
    buffers.give();
    giveUp();
    return status;
  }

  /** Takes the stripe, or shares it with a write that itself waits for the hung member. */
  private async enter({ stripe, hungRole }: LateRead): Promise<() => void> {
    const { ops, runner } = this.parts;
    while (hungRole >= 0 && ops.ownerOf(stripe) >= 0) {
      const shared = runner.share(stripe, hungRole);
      if (shared >= 0) return () => runner.giveBack(shared);
      await runner.eased.wait();
    }
    const held = await runner.holds.take(stripe);
    return () => runner.release(held);
  }
}
