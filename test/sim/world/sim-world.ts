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
 *   turned the simulation: also one that only breaks its array, unless `mayBreak`.
 */

import type { ArrayCommand } from "../../../src/array/commands/command.ts";
import { ArrayService } from "../../../src/array/commands/service.ts";
import { createPools } from "../../../src/array/memory-shares.ts";
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
  ReactorMessage,
} from "../../../src/array/protocol.ts";
import type { ReactorContext, ReactorService } from "../../../src/array/reactor-context.ts";
import { assert } from "../../../src/base/assert.ts";
import { inBackground } from "../../../src/base/background.ts";
import { EIO } from "../../../src/base/errno.ts";
import { type Log, silentLog } from "../../../src/base/log.ts";
import { Carver, CONTROL_BYTES } from "../../../src/base/memory.ts";
import { ok, type Result } from "../../../src/base/result.ts";
import { ROW_BYTES } from "../../../src/base/units.ts";
import { NbdClient, type NbdClientError } from "../../../src/nbd/client/client.ts";
import type { NbdServer } from "../../../src/nbd/server.ts";
import { createParityKernels, type ParityKernels } from "../../../src/parity/kernels.ts";
import { IoTable } from "../../../src/reactor/io-table.ts";
import { REQUEST_COUNT } from "../../../src/wiring/linux-context.ts";
import { createService } from "../../../src/wiring/reactor-service.ts";
import { TEST_POOL_BYTES, testMemory } from "../../helpers/memory.ts";
import type { DeviceTrace } from "./device-trace.ts";
import { blankImage, type DeviceImage, type Media, type SectorBytes } from "./media.ts";
import { CuttableTransport, FrontClient, type SimClient, SocketClient } from "./sim-clients.ts";
import { type CrashPolicy, type Latency, SimDevice } from "./sim-device.ts";
import { SimDrive } from "./sim-drive.ts";
import { SimSocketKernel } from "./sim-sockets.ts";
import { Simulation } from "./simulation.ts";

export const ARRAY_NAME = "raid_sim";
const MAX_IN_FLIGHT = 64;
const PROBE_WAIT_MS = 3_000;
/** Virtual time. */
const LIMIT_MS = 3_600_000;
/** Turns after one in which something happened: the real loop polls on for a while. */
const IDLE_TURNS = 3;
const POLL_MS = 5;
const FIRST_FD = 100;
/** Of a call of the helper thread. */
const HELPER_DEADLINE_MS = 30_000;

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
  /** Default false. True: drives are files, in which holes can be punched. */
  readonly areFiles?: boolean;
  /** Default: all of them. */
  readonly hasCache?: (name: string) => boolean;
  /** Default: nobody reads it. */
  readonly log?: Log;
  /** Default false: an array that breaks is a defect, and ends the run. */
  readonly mayBreak?: boolean;
  /** Called when an event is posted, in the middle of the turn. */
  readonly onEvent?: (event: ArrayEvent) => void;
  /** Milliseconds by which the wall clock is ahead of its usual start: time before a restart. */
  readonly wallAheadMs?: number;
  /** Default 1. */
  readonly firstJobId?: number;
  /** Gets what the reactor says, in the middle of the turn; holes are then punched by it too. */
  readonly onMessage?: (message: ReactorMessage) => void;
  /** What a drive that control has opened is here. Default: what is plugged in by its name. */
  readonly deviceOf?: (drive: OpenDrive) => SimDevice;
}

export interface DriveOptions {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sectorBytes?: SectorBytes;
  readonly logicalBlockBytes?: number;
  readonly latency?: Latency;
}

let sharedKernels: ParityKernels | undefined;

export class SimWorld {
  readonly simulation: Simulation;
  readonly context: ReactorContext;
  /** In the order in which they were posted. */
  readonly events: ArrayEvent[] = [];
  /** Drives that owe the end of a punch: they are in no array before a restart (write-rules 10). */
  readonly overduePunches = new Set<string>();
  /** Plugged in, attached or not, by name. */
  readonly devices = new Map<string, SimDevice>();
  private readonly options: WorldOptions;
  private readonly arrays: ArrayService | null;
  private readonly reactorService: ReactorService;
  private nbdServer: NbdServer | null = null;
  private readonly names: string[] = [];
  private readonly open = new Map<string, SimDrive>();
  private kernel: SimSocketKernel | null = null;
  private isExported = false;
  private isListening = false;
  private isTurnDue = false;
  private wasActive = false;
  /** The defect by which an array broke that must not. */
  private defect: string | null = null;
  private lastError = "";
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
      log: this.watched(options.log ?? silentLog),
      kernels: sharedKernels,
      config: {
        firstJobId: options.firstJobId ?? 1,
        allowFaultInjection: true,
        autoAssemble: options.autoAssemble ?? true,
      },
      openDevice: (drive) => this.openDevice(drive),
      post: (message) => {
        if (options.onMessage !== undefined) options.onMessage(message);
        else if (message.kind === "punch-hole") this.punch(message);
        if (message.kind !== "event") return;
        const isDefect = message.event.kind === "array.broken" && options.mayBreak !== true;
        if (isDefect) this.defect = this.lastError;
        this.events.push(message.event);
        simulation.note(`event ${message.event.kind} ${message.event.message}`);
        options.onEvent?.(message.event);
      },
    };
    if (options.withNbd === true) {
      this.arrays = null;
      const service = createService(this.context);
      this.nbdServer = service.server;
      this.reactorService = service;
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
    const device = this.plug(blankImage(options), { latency: options.latency });
    const attached = this.attach(options.name);
    assert(attached.ok, "a blank drive can be attached");
    return device;
  }

  /** Plugs a drive in, without a command. */
  plug(
    image: DeviceImage | Media,
    { latency, name = image.name }: { latency?: Latency | undefined; name?: string } = {},
  ): SimDevice {
    assert(!this.devices.has(name), "drives have different names");
    const { trace } = this.options;
    const chosen = latency ?? this.options.latency;
    const device = SimDevice.fromImage(image, {
      simulation: this.simulation,
      table: this.context.table,
      memory: this.context.memory,
      hasCache: this.options.hasCache?.(name) ?? true,
      ...(chosen === undefined ? {} : { latency: chosen }),
      ...(trace === undefined ? {} : { trace }),
    });
    this.devices.set(name, device);
    this.names.push(name);
    return device;
  }

  device(name: string): SimDevice {
    const device = this.devices.get(name);
    assert(device !== undefined, `there is a drive ${name}`);
    return device;
  }

  /** Writes, zeroings, flushes and punches that have come to any drive. */
  get changesSubmitted(): number {
    let count = 0;
    for (const device of this.devices.values()) count += device.changesSubmitted;
    return count;
  }

  /** What control tells the reactor about a drive that the helper has opened. */
  openDriveOf(name: string): OpenDrive {
    const { sizeBytes, logicalBlockBytes, hasCache } = this.device(name);
    return {
      name,
      path: `/dev/${name}`,
      fd: FIRST_FD + this.names.indexOf(name),
      sizeBytes,
      logicalBlockBytes,
      isDirect: true,
      isReadOnly: false,
      isRotational: false,
      hasVolatileCache: hasCache,
      readsZeros: false,
      canPunchHoles: this.options.areFiles ?? false,
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
    if (command.kind === "listen-nbd") this.isListening = true;
    const result = this.reactorService.handle(command as unknown as Command);
    inBackground(result, null);
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
  /** One that was set aside goes on by itself, and another one is refused meanwhile. */
  untilNoScrub(array: string = ARRAY_NAME): void {
    const endMs = this.nowMs + LIMIT_MS;
    while (["check", "repair"].includes(this.status(array).sync.action)) {
      if (this.nowMs > endMs) this.simulation.fail(`a scrub runs longer than ${LIMIT_MS} ms`);
      this.simulation.runFor(POLL_MS);
    }
  }

  check(array: string = ARRAY_NAME): number {
    this.untilNoScrub(array);
    const job = this.must<"start-scrub">({
      kind: "start-scrub",
      array,
      mode: "check",
      limitBytesPerSecond: null,
      restart: true,
    });
    const ended = this.waitJob(job.id);
    if (ended.error?.startsWith("a member did not answer") === true) {
      // It is asked again now and then whether it does.
      this.simulation.runFor(PROBE_WAIT_MS);
      return this.check(array);
    }
    if (ended.state !== "done") this.simulation.fail(`the check ended: ${ended.error}`);
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
  async nbdClient(array: string = ARRAY_NAME): Promise<SocketClient> {
    if (!this.isExported) {
      this.isExported = true;
      await this.command<"put-export">({
        kind: "put-export",
        name: array,
        array,
        readOnly: false,
      });
    }
    for (;;) {
      const connected = await this.dial(array);
      if (connected.ok) return connected.value;
      // The array is stopped: a client tries again.
      if (connected.error.kind !== "refused") {
        this.simulation.fail(`connect: ${JSON.stringify(connected.error)}`);
      }
      await this.context.timers.sleep(POLL_MS);
    }
  }

  /** One try of a client to open an export. */
  async dial(exportName: string): Promise<Result<SocketClient, NbdClientError>> {
    assert(this.kernel !== null && this.arrays === null, "this world has an NBD server");
    if (!this.isListening) {
      this.isListening = true;
      const address = { kind: "unix", path: "nbd.sock" } as const;
      await this.command<"listen-nbd">({ kind: "listen-nbd", address, mode: 0o600 });
    }
    const transport = new CuttableTransport(this.kernel.connect());
    const connected = await NbdClient.connect(transport, { exportName });
    return connected.ok ? ok(new SocketClient(connected.value, transport)) : connected;
  }

  /** The server of a world with NBD. */
  get server(): NbdServer {
    assert(this.nbdServer !== null, "this world has an NBD server");
    return this.nbdServer;
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
      device: this.options.deviceOf?.(drive) ?? this.device(drive.name),
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

  /** The part of the helper thread: punches a hole and flushes, or gives up. */
  private punch(call: ReactorMessage & { kind: "punch-hole" }): void {
    const name = this.names[call.fd - FIRST_FD]!;
    const device = this.device(name);
    let isAnswered = false;
    const answer = (error: CommandError | null): void => {
      if (isAnswered) return;
      isAnswered = true;
      void this.command<"hole-punched">({ kind: "hole-punched", id: call.id, error });
    };
    device.punch(call.offset, call.bytes, (result) => {
      if (result === call.bytes) answer(null);
      // Which of the two calls of the helper it was that failed.
      else if (result === -EIO) answer(helperError("flush-failed"));
      else answer(helperError("punch-hole-failed"));
    });
    this.simulation.scheduleAfter(HELPER_DEADLINE_MS, () => {
      if (!isAnswered) this.overduePunches.add(name);
      answer(helperError("drive-timeout"));
    });
  }

  /** The log, in which the stack of a defect stands before the array is told to be broken. */
  private watched(log: Log): Log {
    return {
      write: (level, message, fields) => {
        if (level === "error") this.lastError = `${message}: ${fields?.["error"] ?? ""}`;
        log.write(level, message, fields);
      },
    };
  }

  /** The last hook of a turn: one io_submit, and the turns of a loop that polls on. */
  private endTurn(): void {
    if (this.defect !== null) this.simulation.fail(`an array broke: ${this.defect}`);
    for (const drive of this.open.values()) drive.submitQueued();
    this.idleTurns = this.wasActive ? 0 : this.idleTurns + 1;
    this.wasActive = false;
    if (this.idleTurns < IDLE_TURNS) this.requestTurn();
  }
}

function helperError(code: string): CommandError {
  return { kind: "io", code, detail: code };
}
