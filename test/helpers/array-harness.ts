/**
 * Arrays on real files through real libaio, on the test's own thread: commands go to the service
 * as the control thread would send them, data goes through the array's front.
 */

import type { ArrayCommandKind } from "../../src/array/commands/command.ts";
import { ArrayService } from "../../src/array/commands/service.ts";
import type { ArrayFront } from "../../src/array/front.ts";
import { FrontFlag, FrontOp, type FrontOpCode } from "../../src/array/front.ts";
import type {
  ArrayStatus,
  CommandError,
  CommandMap,
  CommandOf,
  CreateArrayRequest,
  JobStatus,
  OpenDrive,
} from "../../src/array/protocol.ts";
import { assert } from "../../src/base/assert.ts";
import type { Result } from "../../src/base/result.ts";
import { ROW_BYTES, roundUp } from "../../src/base/units.ts";
import { startTestReactor, type TestReactor } from "./reactor.ts";

interface Answer {
  readonly status: number;
  /** 0, or where the data lies instead (FrontCompletion). */
  readonly address: number;
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
}

export class ArrayHarness {
  readonly reactor: TestReactor;
  readonly service: ArrayService;
  private readonly waiting = new Map<number, Waiting>();
  private nextTag = 1;
  private front: ArrayFront | null = null;
  private handle = 0;

  constructor(options: { autoAssemble?: boolean } = {}) {
    this.reactor = startTestReactor();
    this.service = new ArrayService(this.reactor.context, {
      autoAssemble: options.autoAssemble ?? true,
    });
  }

  /** Runs a command to its end. */
  call<K extends ArrayCommandKind>(
    command: CommandOf<K>,
    timeoutMs = 120_000,
  ): Result<CommandMap[K]["value"], CommandError> {
    return this.reactor.pump(this.service.handle<K>(command), timeoutMs);
  }

  /** As `call`, for a command that must succeed. */
  must<K extends ArrayCommandKind>(
    command: CommandOf<K>,
    timeoutMs?: number,
  ): CommandMap[K]["value"] {
    const result = this.call<K>(command, timeoutMs);
    assert(result.ok, `${command.kind} succeeds: ${JSON.stringify(result)}`);
    return result.value;
  }

  addDrive(name: string, sizeBytes: number): OpenDrive {
    const drive = this.reactor.createDrive({ name, sizeBytes });
    this.must({ kind: "attach-drive", drive });
    return drive;
  }

  createArray(request: Partial<CreateArrayRequest> & { drives: readonly string[] }): ArrayStatus {
    const array = this.must<"create-array">({
      kind: "create-array",
      name: "raid_test",
      spares: [],
      chunkBytes: 65_536,
      consistencyPolicy: "resync",
      assumeClean: false,
      force: false,
      ...request,
    });
    this.connect(array.name);
    return array;
  }

  /** Uses the front of this array from now on. */
  connect(array: string): void {
    this.front = this.service.frontOf(array);
    assert(this.front !== null, "the array runs");
    this.handle = this.front.attach((tag, status, address) => {
      const waiting = this.waiting.get(tag)!;
      this.waiting.delete(tag);
      waiting.resolve({ status, address });
    });
  }

  status(array = "raid_test"): ArrayStatus {
    return this.must<"get-array">({ kind: "get-array", array });
  }

  /** Turns until the array's background work has ended. */
  settle(array = "raid_test"): void {
    const { reactor, service } = this;
    reactor.pumpUntil(() => {
      const running = service.registry.byName(array)?.running;
      return running === null || running === undefined || running.synchronizer.action === "idle";
    });
  }

  /** Turns until the job has ended. */
  waitJob(id: number): JobStatus {
    const job = this.service.registry.jobs.get(id)!;
    this.reactor.pumpUntil(() => job.state !== "running");
    return job.status();
  }

  /** Runs a check to its end; answers with how many bytes of parity do not fit. */
  mismatchBytes(): number {
    const options = { mode: "check", limitBytesPerSecond: null, restart: true } as const;
    const job = this.must<"start-scrub">({ kind: "start-scrub", array: "raid_test", ...options });
    const ended = this.waitJob(job.id);
    assert(ended.state === "done", "the check comes to its end");
    return Number(ended.result["mismatchBytes"]);
  }

  /** Starts a write; the promise gives its status. */
  write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<number> {
    const { buffer, bytes } = this.takeBuffer(offset, data.length);
    this.reactor.context.memory.bytes.set(data, buffer + (offset % ROW_BYTES));
    const flags = options.fua === true ? FrontFlag.fua : 0;
    return this.submit(FrontOp.write, offset, data.length, buffer, flags).then(({ status }) => {
      this.reactor.context.payloadPool.free(buffer, bytes);
      return status;
    });
  }

  async read(offset: number, length: number): Promise<{ status: number; data: Uint8Array }> {
    const { buffer, bytes } = this.takeBuffer(offset, length);
    const { status, address } = await this.submit(FrontOp.read, offset, length, buffer, 0);
    const from = address === 0 ? buffer + (offset % ROW_BYTES) : address;
    const data = this.reactor.context.memory.bytes.slice(from, from + length);
    this.reactor.context.payloadPool.free(from - (offset % ROW_BYTES), bytes);
    return { status, data };
  }

  /** Zeroes a range; `flags` of FrontFlag. */
  async writeZeroes(offset: number, length: number, flags = 0): Promise<number> {
    return (await this.submit(FrontOp.writeZeroes, offset, length, 0, flags)).status;
  }

  async trim(offset: number, length: number): Promise<number> {
    return (await this.submit(FrontOp.trim, offset, length, 0, 0)).status;
  }

  /** What the front says of the byte at `offset`: bits of Allocation. */
  allocationAt(offset: number): number {
    return this.front!.allocationAt(offset);
  }

  async flush(): Promise<number> {
    return (await this.submit(FrontOp.flush, 0, 0, 0, 0)).status;
  }

  stop(): void {
    this.must({ kind: "shutdown" });
    this.reactor.stop();
  }

  private takeBuffer(offset: number, length: number): { buffer: number; bytes: number } {
    const bytes = roundUp((offset % ROW_BYTES) + length, ROW_BYTES);
    const buffer = this.reactor.context.payloadPool.allocate(bytes);
    assert(buffer !== 0, "the test keeps within the payload pool");
    return { buffer, bytes };
  }

  private submit(
    op: FrontOpCode,
    offset: number,
    length: number,
    buffer: number,
    flags: number,
  ): Promise<Answer> {
    const tag = this.nextTag;
    this.nextTag += 1;
    const address = buffer === 0 ? 0 : buffer + (offset % ROW_BYTES);
    const result = new Promise<Answer>((resolve) => this.waiting.set(tag, { resolve }));
    this.front!.submit(this.handle, op, offset, length, address, flags, tag);
    return result;
  }
}
