/**
 * An array over the AIO queue of the product and a fake kernel, in virtual time: what a test says
 * of an iocb is what the kernel answers. SimWorld replaces the queue; here it is the real one.
 *
 * - `answerOf` is asked once for each iocb that the kernel has taken: null answers in full, a
 *   number is the raw result. Of a transfer that falls short exactly that part is moved; of one
 *   that fails nothing. A read's buffer holds poison where nothing was moved.
 * - Everything that the kernel holds completes in one reap, in the order of submission.
 */

import { drainMicrotasks } from "bun:jsc";
import type { ArrayCommandKind } from "../../../src/array/commands/command.ts";
import { ArrayService } from "../../../src/array/commands/service.ts";
import { createPools } from "../../../src/array/memory-shares.ts";
import type {
  ArrayStatus,
  CommandMap,
  CommandOf,
  CreateArrayRequest,
} from "../../../src/array/protocol.ts";
import type { ReactorContext } from "../../../src/array/reactor-context.ts";
import { assert } from "../../../src/base/assert.ts";
import { LatencyHistogram } from "../../../src/base/latency-histogram.ts";
import { silentLog } from "../../../src/base/log.ts";
import { Carver, CONTROL_BYTES } from "../../../src/base/memory.ts";
import { SeededRandom } from "../../../src/base/random.ts";
import { ROW_BYTES } from "../../../src/base/units.ts";
import { AioDevice } from "../../../src/block/aio-device.ts";
import { createParityKernels, type ParityKernels } from "../../../src/parity/kernels.ts";
import { AioQueue } from "../../../src/reactor/aio-queue.ts";
import { IoTable } from "../../../src/reactor/io-table.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { FakeAioKernel, type FakeIocb } from "../../helpers/fake-aio-kernel.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { TEST_POOL_BYTES, testMemory } from "../../helpers/memory.ts";
import { FrontClient } from "./sim-clients.ts";

const FIRST_FD = 100;
const POISON = 0xd6;
const TURNS_MAX = 1_000_000;

let sharedKernels: ParityKernels | undefined;

export class KernelWorld {
  readonly kernel: FakeAioKernel;
  readonly context: ReactorContext;
  readonly client: FrontClient;
  /** What each drive holds, in the order in which they were added. */
  readonly disks: Uint8Array[] = [];
  answerOf: (iocb: FakeIocb) => number | null = () => null;
  private readonly service: ArrayService;
  private readonly queue: AioQueue;
  private readonly clock = new ManualClock();
  private readonly hooks: (() => void)[] = [];

  constructor() {
    const memory = testMemory();
    memory.bytes.fill(0, 0, CONTROL_BYTES);
    sharedKernels ??= createParityKernels(memory.memory);
    this.kernel = new FakeAioKernel(memory);
    const carver = new Carver({ start: ROW_BYTES, end: CONTROL_BYTES });
    const table = new IoTable(1024);
    const { kernel, clock } = this;
    const queue = new AioQueue({ kernel, table, carver, memory, eventFd: -1, slotCount: 256 });
    this.queue = queue;
    const timers = new Timers(clock);
    this.context = {
      memory,
      carver,
      table,
      ...createPools(TEST_POOL_BYTES),
      timers,
      loop: {
        timers,
        turnTimes: new LatencyHistogram(),
        get sockets(): never {
          throw new Error("this world has no sockets");
        },
        addHandler: () => 0,
        removeHandler: () => {},
        onTurn: (hook) => this.hooks.push(hook),
      },
      clock,
      random: new SeededRandom(1),
      log: silentLog,
      kernels: sharedKernels,
      config: { firstJobId: 1, allowFaultInjection: false },
      openDevice: ({ name, fd, sizeBytes, logicalBlockBytes }) => {
        const maxInFlight = 64;
        return new AioDevice({
          name,
          fd,
          sizeBytes,
          logicalBlockBytes,
          queue,
          table,
          sizeNow: () => sizeBytes,
          maxInFlight,
        });
      },
      post: () => {},
    };
    this.service = new ArrayService(this.context, { autoAssemble: true });
    this.client = new FrontClient(this, () => this.service.frontOf("raid_kernel"));
  }

  addDrive(sizeBytes: number): string {
    const index = this.disks.push(new Uint8Array(sizeBytes)) - 1;
    const name = `d${index}`;
    this.must<"attach-drive">({
      kind: "attach-drive",
      drive: {
        name,
        path: `/dev/${name}`,
        fd: FIRST_FD + index,
        sizeBytes,
        logicalBlockBytes: 512,
        isDirect: true,
        isReadOnly: false,
        isRotational: false,
        hasVolatileCache: true,
        readsZeros: false,
        signature: null,
      },
    });
    return name;
  }

  createArray(
    request: Pick<CreateArrayRequest, "chunkBytes" | "consistencyPolicy"> & {
      readonly drives: readonly string[];
      readonly memberSizeBytes: number;
    },
  ): ArrayStatus {
    return this.must<"create-array">({
      kind: "create-array",
      name: "raid_kernel",
      spares: [],
      assumeClean: false,
      force: false,
      ...request,
    });
  }

  must<K extends ArrayCommandKind>(command: CommandOf<K>): CommandMap[K]["value"] {
    const result = this.run(this.service.handle<K>(command));
    assert(result.ok, `${command.kind} succeeds`);
    return result.value;
  }

  status(): ArrayStatus {
    return this.must<"get-array">({ kind: "get-array", array: "raid_kernel" });
  }

  /** Turns until nothing runs in the background and the array is marked clean, or has failed. */
  settle(): ArrayStatus {
    for (let turn = 0; turn < TURNS_MAX; turn += 1) {
      const status = this.status();
      if (status.sync.action === "idle" && status.state !== "active") return status;
      this.turn();
    }
    throw new Error("the array comes to rest");
  }

  /** The drive number that an iocb goes to. */
  driveOf({ fd }: FakeIocb): number {
    return fd - FIRST_FD;
  }

  run<T>(promise: Promise<T>): T {
    let settled: { readonly value: T } | { readonly reason: unknown } | null = null;
    promise.then(
      (value) => {
        settled = { value };
      },
      (reason: unknown) => {
        settled = { reason };
      },
    );
    drainMicrotasks();
    for (let turn = 0; settled === null && turn < TURNS_MAX; turn += 1) this.turn();
    assert(settled !== null, "the promise settles");
    const result = settled as { value: T } | { reason: unknown };
    if ("reason" in result) throw result.reason;
    return result.value;
  }

  /** Turns come by themselves here. */
  requestTurn(): void {}

  private turn(): void {
    const reaped = this.queue.reap();
    const due = this.context.timers.runDue();
    for (const hook of this.hooks) hook();
    drainMicrotasks();
    this.queue.submit();
    for (const iocb of [...this.kernel.held]) this.carryOut(iocb);
    if (reaped > 0 || due > 0 || this.kernel.eventCount > 0 || this.queue.hasWork) return;
    const delays = [this.context.timers.nextDelayMs(), this.queue.retryDelayMs];
    const nextMs = Math.min(...delays.filter((delayMs) => delayMs >= 0));
    if (Number.isFinite(nextMs)) this.clock.advance(nextMs);
  }

  private carryOut(iocb: FakeIocb): void {
    const result = this.answerOf(iocb) ?? iocb.bytes;
    const disk = this.disks[this.driveOf(iocb)]!;
    const { memory } = this.context;
    let at = 0;
    for (const { address, bytes } of iocb.iovecs) {
      const moved = Math.min(Math.max(result - at, 0), bytes);
      const from = iocb.offset + at;
      if (iocb.command === "read") {
        memory.bytes.fill(POISON, address, address + bytes);
        memory.bytes.set(disk.subarray(from, from + moved), address);
      } else disk.set(memory.bytes.subarray(address, address + moved), from);
      at += bytes;
    }
    this.kernel.complete(result, iocb);
  }
}
