/**
 * The real reactor service on simulated drives, at the other end of a control thread's channel; the
 * calls of the real helper are answered by a simulated host.
 *
 * It is a thin layer: every command goes to the real service. Beside that it records the commands,
 * can fall silent (`isHung`), can refuse one command of a kind in the service's place (`refusals`),
 * and can say that something happened (`emit`), for what no drive brings about at will.
 */
import { Helper } from "../../src/appliance/helper/helper.ts";
import type { HelperThread } from "../../src/appliance/helper/helper-threads.ts";
import type { ReactorChannel } from "../../src/appliance/reactor-client.ts";
import { processAlarms } from "../../src/appliance/state/alarms.ts";
import type {
  ArrayEvent,
  ArrayStatus,
  Command,
  CommandError,
  CommandKind,
  CommandResult,
  Envelope,
  EventKind,
  JobStatus,
  ReactorMessage,
} from "../../src/array/protocol.ts";
import { inBackground } from "../../src/base/background.ts";
import { SeededRandom } from "../../src/base/random.ts";
import { err } from "../../src/base/result.ts";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { type Disk, DRIVE_BYTES, SimHost } from "../life/sim-host.ts";
import { areasOf } from "../sim/world/member-oracle.ts";
import { SimWorld } from "../sim/world/sim-world.ts";
import { WorldDriver } from "./world-driver.ts";

export const TEST_ARRAY = "raid_test";
const STARTED_AT = "2026-01-02T03:04:05.000Z";
const SEED = 1;

export type AnyCommand = CommandKind | `dry ${CommandKind}`;

export class SimReactor implements ReactorChannel {
  readonly world: SimWorld;
  readonly host: SimHost;
  readonly opener: Helper;
  readonly commands: Command[] = [];
  /** While true, nothing is answered. */
  isHung = false;
  /** Answers the next command of this kind with this error, or its next dry run. */
  readonly refusals = new Map<AnyCommand, CommandError>();
  /** Told of each command before it is carried out. */
  onCommand: (command: Command) => void = () => {};
  private readonly driver: WorldDriver;
  private listener: (message: ReactorMessage) => void = () => {};

  /** A process that starts on this host: what ran there before is ended as by SIGKILL. */
  constructor(host: SimHost, { firstJobId = 1 }: { firstJobId?: number } = {}) {
    this.host = host;
    host.end();
    this.world = new SimWorld({
      seed: SEED,
      withNbd: true,
      autoAssemble: false,
      firstJobId,
      onMessage: (message) => this.say(message, { isAnswer: false }),
      deviceOf: (drive) => host.deviceOf(drive),
    });
    this.driver = new WorldDriver(this.world.simulation);
    host.begin(this.world);
    this.opener = new Helper({
      startThread: () => this.startThread(),
      setTimer: (afterMs, run) => processAlarms.after(afterMs, run),
    });
  }

  post(envelope: Envelope): void {
    const { id, command } = structuredClone(envelope);
    this.commands.push(command);
    if (this.isHung) return;
    this.driver.begin();
    const answered = this.handle(command).then((result) => {
      this.say({ kind: "reply", id, result }, { isAnswer: true });
    });
    inBackground(answered, null);
  }

  onMessage(listener: (message: ReactorMessage) => void): void {
    this.listener = listener;
    void Promise.resolve().then(() => listener({ kind: "ready" }));
  }

  emit(kind: EventKind, rest: Partial<ArrayEvent> = {}): void {
    const event: ArrayEvent = {
      kind,
      severity: "info",
      array: TEST_ARRAY,
      arrayUuid: testUuid(TEST_ARRAY),
      drive: null,
      job: null,
      atMs: Date.parse(STARTED_AT),
      message: `${kind} happened`,
      ...rest,
    };
    this.driver.flush();
    this.listener({ kind: "event", event });
  }

  // What there is, asked past the channel ------------------------------------------------------

  arrays(): readonly ArrayStatus[] {
    return this.world.must<"list-arrays">({ kind: "list-arrays" });
  }

  array(name: string): ArrayStatus | undefined {
    return this.arrays().find((array) => array.name === name);
  }

  jobs(): readonly JobStatus[] {
    return this.world.must<"list-jobs">({ kind: "list-jobs" });
  }

  driveNames(): string[] {
    return this.world
      .must<"list-drives">({ kind: "list-drives" })
      .map(({ name }) => name)
      .sort();
  }

  exports() {
    return this.world.must<"list-exports">({ kind: "list-exports" });
  }

  /** Messages between two threads are copies. */
  private say(message: ReactorMessage, answer: { isAnswer: boolean }): void {
    const copy = structuredClone(message);
    this.driver.deliver(() => this.listener(copy), answer);
  }

  private handle(command: Command): Promise<CommandResult> {
    this.onCommand(command);
    const isDry = "dryRun" in command && command.dryRun === true;
    const kind: AnyCommand = isDry ? `dry ${command.kind}` : command.kind;
    const refusal = this.refusals.get(kind);
    if (refusal === undefined) return this.world.command(command) as Promise<CommandResult>;
    this.refusals.delete(kind);
    return Promise.resolve(err(refusal));
  }

  private startThread(): HelperThread {
    const thread = this.host.startThread();
    return {
      ...thread,
      post: (envelope) => {
        this.driver.begin();
        thread.post(envelope);
      },
      onReply: (listener) =>
        thread.onReply((reply) => {
          this.driver.deliver(() => listener(reply), { isAnswer: true });
        }),
    };
  }
}

/** The status of a new array of these drives, in sync, as the real service tells it. */
export function exampleArray(name: string, drives: readonly string[]): ArrayStatus {
  const world = new SimWorld({ seed: SEED });
  for (const drive of drives) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
  world.createArray({ name, drives, assumeClean: true, force: true });
  return world.settle({ array: name });
}

/** A host whose disks have these paths. */
export function hostWithDisks(paths: readonly string[]): SimHost {
  const host = new SimHost({ random: new SeededRandom(SEED) });
  for (const path of paths) host.addDisk({ tellsId: false }).path = path;
  return host;
}

/** The disk at a path, plugged in or not. */
export function diskAt(host: SimHost, path: string): Disk {
  const disk = [...host.disks.values()].find((candidate) => candidate.path === path);
  if (disk === undefined) throw new Error(`no disk has ever been at ${path}`);
  return disk;
}

export function unplug(host: SimHost, path: string): void {
  host.pull(diskAt(host, path));
}

export function plugAgain(host: SimHost, path: string): void {
  const disk = diskAt(host, path);
  host.plug(disk);
  disk.path = path;
}

/** What the last member of the test array holds there rots: a check finds that parity differs. */
export function rotRanges(
  { host }: SimReactor,
  ranges: readonly { firstSector: number; sectorCount: number }[],
): void {
  const { device } = diskAt(host, "/dev/c");
  if (device === null) throw new Error("nobody has opened it");
  const data = areasOf(device.image()).find(({ name }) => name === "data")!;
  for (const { firstSector, sectorCount } of ranges) {
    device.rot(data.offset + firstSector * SECTOR_BYTES, sectorCount * SECTOR_BYTES);
  }
}

/** A uuid that follows from a name. */
export function testUuid(name: string): string {
  const digits = Buffer.from(name).toString("hex").padEnd(32, "0").slice(0, 32);
  return digits.replaceAll(/(.{8})(?=.)/g, "$1:");
}
