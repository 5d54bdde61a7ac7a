/**
 * The product from the block filters up to NBD sessions, inside one simulation: a reactor whose
 * drives, sockets and clock are simulated and whose everything else is the real code.
 *
 * How to use it:
 *
 *   const world = new SimWorld({ seed: 1 });
 *   for (const name of ["a", "b", "c"]) world.addDrive({ name, sizeBytes: 4 * MIB });
 *   world.createArray({ drives: ["a", "b", "c"], chunkBytes: 4096 });
 *   const client = world.client();                     // or await world.nbdClient()
 *   world.run(client.write(0, bytes, { fua: true }));  // turns until it is answered
 *   world.device("a").faults.plan({ fault: … });       // sim-device.ts, sim-faults.ts
 *   const images = world.crash("random");              // power cut: what the drives hold
 *   const after = SimWorld.restart(images, { seed: 1 });
 *   after.startArrays();                               // what did not assemble by itself
 *
 * - `call` runs a command of the control thread to its end and gives its Result; `must` wants it
 *   to succeed. `run` settles any promise. All of them turn the simulation, none of them may be
 *   used from inside it (from an async function that it drives): use `command` there.
 * - Give `trace` to record all drives, each under the number of its `addDrive` (crash-images.ts).
 * - All worlds share the one memory of the process: a world that was left (crashed or not) must
 *   not be turned again once the next one is made. Images are plain values and may be kept.
 * - A violated assertion of the product, or an unhandled rejection, throws out of the call that
 *   turned the simulation.
 */
import type { ReactorContext, ReactorService } from "../../src/array/context.ts";
import { type ArrayFront, FrontFlag, FrontOp, type FrontOpCode } from "../../src/array/front.ts";
import { createPools } from "../../src/array/linux-context.ts";
import type {
  ArrayEvent,
  ArrayStatus,
  Command,
  CommandError,
  CommandMap,
  CommandOf,
  CreateArrayRequest,
  DriveStatus,
  JobStatus,
  OpenDrive,
} from "../../src/array/protocol.ts";
import { type ArrayCommand, ArrayService } from "../../src/array/service.ts";
import { assert } from "../../src/base/assert.ts";
import { ESHUTDOWN } from "../../src/base/errno.ts";
import { silentLog } from "../../src/base/log.ts";
import { Carver, CONTROL_BYTES } from "../../src/base/memory.ts";
import type { Result } from "../../src/base/result.ts";
import { MIB, ROW_BYTES, roundUp } from "../../src/base/units.ts";
import { NbdClient } from "../../src/nbd/client.ts";
import { createService } from "../../src/nbd/reactor-service.ts";
import { createParityKernels, type ParityKernels } from "../../src/parity/kernels.ts";
import { IoTable } from "../../src/reactor/io-table.ts";
import { TEST_POOL_BYTES, testMemory } from "../helpers/memory.ts";
import type { DeviceTrace } from "./device-trace.ts";
import { blankImage, type DeviceImage, type SectorBytes } from "./media.ts";
import { type CrashPolicy, type Latency, SimDevice } from "./sim-device.ts";
import { SimDrive } from "./sim-drive.ts";
import { SimSocketKernel } from "./sim-sockets.ts";
import { Simulation } from "./simulation.ts";

export const ARRAY_NAME = "raid_sim";
const REQUEST_COUNT = 4096;
const MAX_IN_FLIGHT = 64;
/** Virtual time. */
const LIMIT_MS = 3_600_000;
/** Turns after one in which something happened: the real loop polls on for a while. */
const IDLE_TURNS = 3;
const PAYLOAD_WAIT_MS = 0.5;
const POLL_MS = 5;

export interface WorldOptions {
  readonly seed: number;
  /** See Simulation. */
  readonly batchChance?: number;
  /** Of drives that do not say otherwise. */
  readonly latency?: Latency;
  readonly trace?: DeviceTrace;
  /** Default false: without the NBD server a world is made faster. */
  readonly withNbd?: boolean;
  /** Default true. */
  readonly autoAssemble?: boolean;
  /** Milliseconds by which the wall clock is ahead of its usual start: time before a restart. */
  readonly wallAheadMs?: number;
}

export interface DriveOptions {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sectorBytes?: SectorBytes;
  readonly logicalBlockBytes?: number;
  readonly latency?: Latency;
}

/** A client of an array. A status is 0 or a positive errno. Offsets and lengths are any bytes. */
export interface SimClient {
  write(offset: number, data: Uint8Array, options?: { fua?: boolean }): Promise<number>;
  read(offset: number, bytes: number): Promise<{ status: number; data: Uint8Array }>;
  flush(): Promise<number>;
}

let sharedKernels: ParityKernels | undefined;

export class SimWorld {
  readonly simulation: Simulation;
  readonly context: ReactorContext;
  /** In the order in which they were posted. */
  readonly events: ArrayEvent[] = [];
  /** Plugged in, attached or not, by name. */
  readonly devices = new Map<string, SimDevice>();
  private readonly options: WorldOptions;
  private readonly arrays: ArrayService | null;
  private readonly reactorService: ReactorService;
  private readonly names: string[] = [];
  private readonly open = new Map<string, SimDrive>();
  private kernel: SimSocketKernel | null = null;
  private isExported = false;
  private isTurnDue = false;
  private wasActive = false;
  private idleTurns = 0;

  constructor(options: WorldOptions) {
    this.options = options;
    const memory = testMemory();
    // As a fresh process: what was carved before is not there any more.
    memory.bytes.fill(0, 0, options.withNbd === true ? CONTROL_BYTES : 4 * ROW_BYTES);
    sharedKernels ??= createParityKernels(memory.memory);
    this.simulation = new Simulation({
      seed: options.seed,
      batchChance: options.batchChance ?? 0,
      sockets: (simulation) => {
        this.kernel = new SimSocketKernel({ simulation, memory });
        return this.kernel;
      },
    });
    const { simulation } = this;
    simulation.jumpWall(options.wallAheadMs ?? 0);
    const table = new IoTable(REQUEST_COUNT);
    this.context = {
      memory,
      carver: new Carver({ start: ROW_BYTES, end: CONTROL_BYTES }),
      table,
      ...createPools(TEST_POOL_BYTES),
      timers: simulation.timers,
      loop: simulation,
      clock: simulation,
      random: simulation.splitRandom(),
      log: silentLog,
      kernels: sharedKernels,
      config: {
        firstJobId: 1,
        allowFaultInjection: true,
        autoAssemble: options.autoAssemble ?? true,
      },
      openDevice: (drive) => this.openDevice(drive),
      onBatch: ({ start, end }) => {
        simulation.onBatchStart(start);
        simulation.onBatchEnd(end);
      },
      post: (message) => {
        if (message.kind !== "event") return;
        this.events.push(message.event);
        simulation.note(`event ${message.event.kind} ${message.event.message}`);
      },
    };
    if (options.withNbd === true) {
      this.arrays = null;
      this.reactorService = createService(this.context);
    } else {
      const arrays = new ArrayService(this.context, {
        autoAssemble: options.autoAssemble ?? true,
      });
      this.arrays = arrays;
      this.reactorService = { handle: (command) => arrays.handle(command as ArrayCommand) };
    }
    simulation.onTurn(() => this.endTurn());
  }

  /** A machine that starts with these drives: all are attached, in the order given. */
  static restart(images: Iterable<DeviceImage>, options: WorldOptions): SimWorld {
    const world = new SimWorld(options);
    for (const image of images) {
      world.plug(image);
      world.attach(image.name);
    }
    return world;
  }

  /** The service, for its registry and fronts; not in a world with NBD. */
  get service(): ArrayService {
    assert(this.arrays !== null, "this world has no NBD server");
    return this.arrays;
  }

  get nowMs(): number {
    return this.simulation.nowMs();
  }

  // Drives -----------------------------------------------------------------------------------

  /** A drive of zeros, plugged in and attached. */
  addDrive(options: DriveOptions): SimDevice {
    const device = this.plug(blankImage(options), options.latency);
    const attached = this.attach(options.name);
    assert(attached.ok, "a blank drive can be attached");
    return device;
  }

  /** Plugs a drive in, without a command. */
  plug(image: DeviceImage, latency?: Latency): SimDevice {
    assert(!this.devices.has(image.name), "drives have different names");
    const { trace } = this.options;
    const chosen = latency ?? this.options.latency;
    const device = SimDevice.fromImage(image, {
      simulation: this.simulation,
      table: this.context.table,
      memory: this.context.memory,
      ...(chosen === undefined ? {} : { latency: chosen }),
      ...(trace === undefined ? {} : { trace }),
    });
    this.devices.set(image.name, device);
    this.names.push(image.name);
    return device;
  }

  device(name: string): SimDevice {
    const device = this.devices.get(name);
    assert(device !== undefined, `there is a drive ${name}`);
    return device;
  }

  /** What control tells the reactor about a drive that the helper has opened. */
  openDriveOf(name: string): OpenDrive {
    const { sizeBytes, logicalBlockBytes } = this.device(name);
    return {
      name,
      path: `/dev/${name}`,
      fd: 100 + this.names.indexOf(name),
      sizeBytes,
      logicalBlockBytes,
      isDirect: true,
      isReadOnly: false,
      isRotational: false,
      hasVolatileCache: true,
      readsZeros: false,
      signature: null,
    };
  }

  attach(name: string): Result<DriveStatus, CommandError> {
    return this.call<"attach-drive">({ kind: "attach-drive", drive: this.openDriveOf(name) });
  }

  // Commands ---------------------------------------------------------------------------------

  /** Starts a command; for code that runs inside the simulation. */
  command<K extends Command["kind"]>(
    command: CommandOf<K>,
  ): Promise<Result<CommandMap[K]["value"], CommandError>> {
    const result = this.reactorService.handle(command as unknown as Command);
    this.requestTurn();
    return result as Promise<Result<CommandMap[K]["value"], CommandError>>;
  }

  call<K extends Command["kind"]>(
    command: CommandOf<K>,
    limitMs: number = LIMIT_MS,
  ): Result<CommandMap[K]["value"], CommandError> {
    return this.run(this.command<K>(command), limitMs);
  }

  must<K extends Command["kind"]>(command: CommandOf<K>): CommandMap[K]["value"] {
    const result = this.call<K>(command);
    if (!result.ok) this.simulation.fail(`${command.kind}: ${result.error.detail}`);
    return result.value;
  }

  createArray(request: Partial<CreateArrayRequest> & { drives: readonly string[] }): ArrayStatus {
    return this.must<"create-array">({
      kind: "create-array",
      name: ARRAY_NAME,
      spares: [],
      chunkBytes: 65_536,
      consistencyPolicy: "resync",
      assumeClean: false,
      force: false,
      ...request,
    });
  }

  /** Starts the array from what is attached. */
  startArray(
    options: { force?: boolean; readOnly?: boolean; array?: string } = {},
  ): Result<ArrayStatus, CommandError> {
    const { force = false, readOnly = false, array = ARRAY_NAME } = options;
    return this.call<"start-array">({ kind: "start-array", array, force, readOnly });
  }

  /** Starts every array that is inactive; the refusals, if any. */
  startArrays(): CommandError[] {
    const refusals: CommandError[] = [];
    for (const { name, state } of this.must<"list-arrays">({ kind: "list-arrays" })) {
      if (state !== "inactive") continue;
      const started = this.startArray({ array: name });
      if (!started.ok) refusals.push(started.error);
    }
    return refusals;
  }

  status(array: string = ARRAY_NAME): ArrayStatus {
    return this.must<"get-array">({ kind: "get-array", array });
  }

  /** Turns until the array's background work is done and it is marked clean, or has failed. */
  settle(options: { array?: string; limitMs?: number } = {}): ArrayStatus {
    const { array = ARRAY_NAME, limitMs = LIMIT_MS } = options;
    const endMs = this.nowMs + limitMs;
    for (;;) {
      const status = this.status(array);
      if (status.sync.action === "idle" && status.state !== "active") return status;
      if (this.nowMs > endMs) {
        this.simulation.fail(`still ${status.state}, ${status.sync.action}, after ${limitMs} ms`);
      }
      this.simulation.runFor(POLL_MS);
    }
  }

  job(id: number): JobStatus {
    return this.must<"get-job">({ kind: "get-job", id });
  }

  waitJob(id: number, limitMs: number = LIMIT_MS): JobStatus {
    const endMs = this.nowMs + limitMs;
    for (;;) {
      const job = this.job(id);
      if (job.state !== "running") return job;
      if (this.nowMs > endMs) this.simulation.fail(`job ${id} runs longer than ${limitMs} ms`);
      this.simulation.runFor(POLL_MS);
    }
  }

  /** Runs a check to its end; the bytes of rows whose parity does not hold. */
  check(array: string = ARRAY_NAME): number {
    const job = this.must<"start-scrub">({
      kind: "start-scrub",
      array,
      mode: "check",
      limitBytesPerSecond: null,
      restart: true,
    });
    const ended = this.waitJob(job.id);
    if (ended.state !== "done") this.simulation.fail(`the check ended ${ended.state}`);
    return Number(ended.result["mismatchBytes"]);
  }

  // Time -------------------------------------------------------------------------------------

  /** Turns until the promise settles. */
  run<T>(promise: Promise<T>, limitMs: number = LIMIT_MS): T {
    return this.simulation.settle(promise, { limitMs });
  }

  /** The power is cut: what each drive holds then. The world is not turned any more. */
  crash(policy: CrashPolicy | ((name: string) => CrashPolicy)): DeviceImage[] {
    const policyOf = typeof policy === "string" ? () => policy : policy;
    return this.names.map((name) => this.device(name).crash(policyOf(name)));
  }

  /** What the drives hold, had everything completed been written back. */
  images(): DeviceImage[] {
    return this.names.map((name) => this.device(name).image());
  }

  // Clients ----------------------------------------------------------------------------------

  /** A client of the array's front, whichever is there when a request comes. */
  client(array: string = ARRAY_NAME): SimClient {
    return new FrontClient(this, () => this.service.frontOf(array));
  }

  /** A client over a socket of its own. */
  async nbdClient(array: string = ARRAY_NAME): Promise<SimClient> {
    assert(this.kernel !== null && this.arrays === null, "this world has an NBD server");
    if (!this.isExported) {
      this.isExported = true;
      const address = { kind: "unix", path: "nbd.sock" } as const;
      await this.command<"listen-nbd">({ kind: "listen-nbd", address, mode: 0o600 });
      await this.command<"put-export">({
        kind: "put-export",
        name: array,
        array,
        readOnly: false,
      });
    }
    const connected = await NbdClient.connect(this.kernel.connect(), { exportName: array });
    if (!connected.ok) this.simulation.fail(`connect: ${JSON.stringify(connected.error)}`);
    return new SocketClient(connected.value);
  }

  /** For clients: something waits for the end of a turn. */
  requestTurn(): void {
    if (this.isTurnDue) return;
    this.isTurnDue = true;
    this.simulation.scheduleAfter(0, () => {
      this.isTurnDue = false;
    });
  }

  private openDevice(drive: OpenDrive): SimDrive {
    const opened = new SimDrive({
      device: this.device(drive.name),
      table: this.context.table,
      simulation: this.simulation,
      maxInFlight: MAX_IN_FLIGHT,
      onQueued: () => this.requestTurn(),
      onActive: () => {
        this.wasActive = true;
      },
    });
    this.open.set(drive.name, opened);
    return opened;
  }

  /** The last hook of a turn: one io_submit, and the turns of a loop that polls on. */
  private endTurn(): void {
    for (const drive of this.open.values()) drive.submitQueued();
    this.idleTurns = this.wasActive ? 0 : this.idleTurns + 1;
    this.wasActive = false;
    if (this.idleTurns < IDLE_TURNS) this.requestTurn();
  }
}

/** See FrontCompletion. */
interface Answer {
  readonly status: number;
  readonly address: number;
}

/** Straight to the engine, with buffers of the payload pool. */
class FrontClient implements SimClient {
  private readonly world: SimWorld;
  private readonly frontNow: () => ArrayFront | null;
  private readonly handles = new WeakMap<ArrayFront, number>();
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private nextTag = 1;

  constructor(world: SimWorld, frontNow: () => ArrayFront | null) {
    this.world = world;
    this.frontNow = frontNow;
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<number> {
    const { buffer, bytes } = await this.takeBuffer(offset, data.length);
    const { memory, payloadPool } = this.world.context;
    memory.bytes.set(data, buffer + (offset % ROW_BYTES));
    const flags = options.fua === true ? FrontFlag.fua : 0;
    const { status } = await this.submit(FrontOp.write, offset, data.length, buffer, flags);
    payloadPool.free(buffer, bytes);
    return status;
  }

  async read(offset: number, length: number): Promise<{ status: number; data: Uint8Array }> {
    const { buffer, bytes } = await this.takeBuffer(offset, length);
    const { memory, payloadPool } = this.world.context;
    const lead = offset % ROW_BYTES;
    const { status, address } = await this.submit(FrontOp.read, offset, length, buffer, 0);
    // The array may have kept the buffer for a member that hangs, and given another one.
    const owned = address > 0 ? address - lead : buffer;
    const data = memory.bytes.slice(owned + lead, owned + lead + length);
    payloadPool.free(owned, bytes);
    return { status, data };
  }

  async flush(): Promise<number> {
    const { status } = await this.submit(FrontOp.flush, 0, 0, 0, 0);
    return status;
  }

  private async takeBuffer(
    offset: number,
    length: number,
  ): Promise<{ buffer: number; bytes: number }> {
    const { payloadPool, timers } = this.world.context;
    const bytes = roundUp((offset % ROW_BYTES) + length, ROW_BYTES);
    assert(bytes <= MIB * 8, "requests keep well below the pool");
    for (;;) {
      const buffer = payloadPool.allocate(bytes);
      if (buffer !== 0) return { buffer, bytes };
      await timers.sleep(PAYLOAD_WAIT_MS);
    }
  }

  private submit(
    op: FrontOpCode,
    offset: number,
    length: number,
    buffer: number,
    flags: number,
  ): Promise<Answer> {
    const front = this.frontNow();
    if (front === null) return Promise.resolve({ status: ESHUTDOWN, address: 0 });
    const tag = this.nextTag;
    this.nextTag += 1;
    const address = buffer === 0 ? 0 : buffer + (offset % ROW_BYTES);
    const answer = new Promise<Answer>((resolve) => this.waiting.set(tag, resolve));
    front.submit(this.handleOf(front), op, offset, length, address, flags, tag);
    this.world.requestTurn();
    return answer;
  }

  private handleOf(front: ArrayFront): number {
    const known = this.handles.get(front);
    if (known !== undefined) return known;
    const handle = front.attach((tag, status, address) => {
      const resolve = this.waiting.get(tag);
      assert(resolve !== undefined, "a request is answered once");
      this.waiting.delete(tag);
      resolve({ status, address });
    });
    this.handles.set(front, handle);
    return handle;
  }
}

class SocketClient implements SimClient {
  private readonly client: NbdClient;

  constructor(client: NbdClient) {
    this.client = client;
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<number> {
    const result = await this.client.write(offset, data, options);
    return result.ok ? 0 : result.error;
  }

  async read(offset: number, bytes: number): Promise<{ status: number; data: Uint8Array }> {
    const result = await this.client.read(offset, bytes);
    if (result.ok) return { status: 0, data: result.value };
    return { status: result.error, data: new Uint8Array(bytes) };
  }

  async flush(): Promise<number> {
    const result = await this.client.flush();
    return result.ok ? 0 : result.error;
  }
}
