/**
 * Two arrays under load in one reactor, with all that happens to them: writes, zeros, reads and
 * flushes, a member that fails and is replaced, scrubs, changes of the policy, stops and starts.
 * Something may be thrown in the middle of it (planted-throws.ts); then
 *
 * - at most one of the two is broken, and the other one never notices: no error, no wrong byte
 * - each request of the broken one is answered once, after the break with EIO
 * - each command is answered, and nothing of the broken one is written any more
 * - what it held of the pools is there again, and the shutdown goes past it
 * - assembled again, it has lost nothing of what was acknowledged and flushed, and needs no force
 */

import type { Command, CommandError, ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { policyOf } from "../../../src/array/running/array-core.ts";
import { EIO, EPERM, ESHUTDOWN } from "../../../src/base/errno.ts";
import type { Log } from "../../../src/base/log.ts";
import { nextBelow, type SeededRandom } from "../../../src/base/random.ts";
import type { Result } from "../../../src/base/result.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import type { Superblock } from "../../../src/md/superblock.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { SimClient } from "../world/sim-clients.ts";
import { SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8 * KIB;
const STRIPES = 6;
const DRIVE_BYTES = 3 * MIB;
const LATENCY = { minMs: 0.05, tailMs: 0.3 };
const CLIENTS = 2;
const REQUESTS = 14;
const POLICIES: readonly ConsistencyPolicy[] = ["ppl", "bitmap", "resync"];
const LIMIT_MS = 600_000;
/** Requests of the member table that the one throw itself may cost. */
const LOST_REQUESTS_MAX = 1;

export interface LifeReport {
  /** Names of the arrays that are broken. */
  readonly broken: readonly string[];
  /** The log tells of a defect. */
  readonly isLogged: boolean;
}

/** Throws where something is not as it ought to be. */
export function liveTwoArrays(seed: number, throws: Throws): LifeReport {
  return new TwoArrays(seed, throws).live();
}

/** Something is thrown between `begin` and `pause` only. */
export interface Throws {
  begin(): void;
  pause(): void;
}

class Side {
  readonly name: string;
  readonly client: SimClient;
  readonly drives: readonly string[];
  oracle = new SectorOracle({ seed: 1, sectorCount: 1 });
  sectorCount = 0;
  requestsAfterBreak = 0;
  isBusy = true;

  constructor(world: SimWorld, name: string) {
    this.name = name;
    this.client = world.client(name);
    this.drives = ["0", "1", "2", "3"].map((index) => `${name}${index}`);
  }
}

class TwoArrays {
  private readonly seed: number;
  private readonly world: SimWorld;
  private readonly random: SeededRandom;
  private readonly sides: readonly Side[];
  private readonly poolsBefore: readonly number[];
  private readonly failures: string[] = [];
  private readonly throws: Throws;
  private hasDefect = false;
  private isLogged = false;

  constructor(seed: number, throws: Throws) {
    this.seed = seed;
    this.throws = throws;
    const log: Log = {
      write: (level, message) => {
        if (level === "error" && message.includes("defect")) this.isLogged = true;
      },
    };
    const files = { areFiles: true, latency: LATENCY };
    this.world = new SimWorld({ seed, ...files, batchChance: 0.3, log, mayBreak: true });
    this.random = this.world.simulation.splitRandom();
    this.sides = [new Side(this.world, "left"), new Side(this.world, "right")];
    this.poolsBefore = this.poolsNow();
  }

  live(): LifeReport {
    const { world } = this;
    for (const { drives } of this.sides) {
      for (const name of drives) world.addDrive({ name, sizeBytes: DRIVE_BYTES });
    }
    this.watchWrites();
    this.throws.begin();
    world.run(Promise.all(this.sides.map((side, index) => this.liveOne(side, index))), LIMIT_MS);
    this.throws.pause();
    // What is broken shows at once; what its drives still do ends some time.
    world.simulation.runFor(1000);
    for (const side of this.sides) {
      if (this.isBroken(side)) this.checkBroken(side);
      else this.checkWhole(side);
    }
    this.throws.begin();
    this.stopAll();
    this.throws.pause();
    this.checkPools();
    // The stop may have been where something was thrown.
    const broken = this.sides.filter((side) => this.isBroken(side));
    if (broken.length > 1) this.failures.push("both arrays are broken");
    const images = world.crash("random");
    for (const side of broken) this.assembleAgain(side, images);
    if (this.failures.length > 0) throw new Error(this.failures.join("; "));
    return { broken: broken.map(({ name }) => name), isLogged: this.isLogged };
  }

  // One array --------------------------------------------------------------------------------

  private async liveOne(side: Side, index: number): Promise<void> {
    const policy = POLICIES[(this.seed + index) % POLICIES.length]!;
    const created = await this.command({
      kind: "create-array",
      name: side.name,
      drives: side.drives.slice(0, 3),
      spares: [],
      chunkBytes: CHUNK_BYTES,
      memberSizeBytes: STRIPES * CHUNK_BYTES,
      consistencyPolicy: policy,
      assumeClean: false,
      force: true,
    });
    if (!created.ok) {
      if (!this.isBroken(side) && !this.hasDefect)
        this.failures.push(`create: ${created.error.detail}`);
      return;
    }
    side.sectorCount = (created.value as { sizeBytes: number }).sizeBytes / SECTOR_BYTES;
    side.oracle = new SectorOracle({ seed: this.seed, sectorCount: side.sectorCount });
    const clients: Promise<void>[] = [];
    for (let count = 0; count < CLIENTS; count += 1) clients.push(this.load(side));
    await this.administer(side);
    side.isBusy = false;
    await Promise.all(clients);
  }

  private async administer(side: Side): Promise<void> {
    const array = side.name;
    const [first, , , spare] = side.drives as [string, string, string, string];
    const scrub = { limitBytesPerSecond: null, restart: true } as const;
    const jobsEnd = async (): Promise<void> => {
      const { jobs } = this.world.service.registry;
      const isRunning = () =>
        jobs.list().some((job) => job.array === array && job.state === "running");
      while (isRunning() && !this.isBroken(side)) await this.world.context.timers.sleep(5);
    };
    await jobsEnd();
    await this.command({ kind: "start-scrub", array, mode: "repair", ...scrub });
    await this.command({ kind: "list-arrays" });
    await jobsEnd();
    await this.command({ kind: "fail-member", array, drive: first });
    await this.world.context.timers.sleep(20);
    await this.command({ kind: "add-member", array, drive: spare, force: true });
    await jobsEnd();
    await this.command({ kind: "remove-member", array, drive: first });
    await this.command({ kind: "add-member", array, drive: first, force: true });
    const policy = POLICIES[nextBelow(this.random, POLICIES.length)]!;
    await this.command({ kind: "set-array", array, consistencyPolicy: policy });
    await this.command({ kind: "stop-array", array });
    await this.command({ kind: "list-drives" });
    await this.command({ kind: "start-array", array, force: false, readOnly: false });
    await this.command({ kind: "start-scrub", array, mode: "check", ...scrub });
    await this.command({ kind: "pause-scrub", array });
    await this.command({ kind: "cancel-scrub", array });
    await this.world.context.timers.sleep(300);
  }

  private async load(side: Side): Promise<void> {
    for (let count = 0; count < REQUESTS || side.isBusy; count += 1) {
      await this.request(side);
      if (side.requestsAfterBreak > 2) return;
      await this.world.context.timers.sleep(nextBelow(this.random, 8));
    }
  }

  private async request(side: Side): Promise<void> {
    const client = new OracleClient(side.oracle, side.client);
    const sectors = 1 + nextBelow(this.random, 40);
    const lba = nextBelow(this.random, side.sectorCount - sectors);
    const kind = nextBelow(this.random, 10);
    if (this.isBroken(side)) side.requestsAfterBreak += 1;
    const range = { lba, sectors };
    if (kind < 2) {
      const found = await client.read(range);
      this.judge(side, "read", typeof found === "number" ? found : 0);
      if (typeof found !== "number") this.failures.push(`${side.name}: ${found.message}`);
    } else if (kind < 4) this.judge(side, "flush", await client.flush());
    else {
      const fua = nextBelow(this.random, 4) === 0;
      if (kind === 4) this.judge(side, "zero", await client.zero(range, { fua }));
      else if (kind === 5) this.judge(side, "trim", await client.trim(range));
      else this.judge(side, "stamp", await client.write(range, { fua }));
    }
  }

  private judge(side: Side, what: string, status: number): void {
    // While it is stopped, and while its policy changes.
    if (status === 0 || status === ESHUTDOWN) {
      if (status === 0 && side.requestsAfterBreak > 0 && this.isBroken(side)) {
        // One that was answered before the break may be taken after it; later ones may not.
        if (side.requestsAfterBreak > CLIENTS) this.failures.push(`${what} done after the break`);
      }
      return;
    }
    if (status === EIO && this.isBroken(side)) return;
    if (status === EPERM && this.isBroken(side)) return;
    this.failures.push(`${side.name}: ${what} ended with errno ${status}`);
  }

  // At the end -------------------------------------------------------------------------------

  private checkWhole(side: Side): void {
    if (side.sectorCount === 0) return;
    const { world } = this;
    const { state } = world.status(side.name);
    if (state === "inactive")
      this.must({ kind: "start-array", array: side.name, force: false, readOnly: false });
    world.settle({ array: side.name });
    this.readAll(world, side, "at the end");
    const mismatchBytes = world.check(side.name);
    if (mismatchBytes > 0)
      this.failures.push(`${side.name}: ${mismatchBytes} bytes of parity are wrong`);
  }

  private readAll(world: SimWorld, side: Side, when: string): void {
    const client = world.client(side.name);
    const step = 64;
    for (let lba = 0; lba < side.sectorCount; lba += step) {
      const sectors = Math.min(step, side.sectorCount - lba);
      const { status, data } = world.run(client.read(lba * SECTOR_BYTES, sectors * SECTOR_BYTES));
      if (status !== 0) this.failures.push(`${side.name}: read ${when}: errno ${status}`);
      const wrong = status === 0 ? side.oracle.check(lba, data) : null;
      if (wrong !== null) this.failures.push(`${side.name} ${when}: ${wrong.message}`);
      if (this.failures.length > 3) return;
    }
  }

  private checkBroken(side: Side): void {
    const { world } = this;
    const array = side.name;
    const status = world.status(array);
    if (status.state !== "broken") this.failures.push(`its state is ${status.state}`);
    if (!(status.reason ?? "").includes("defect")) this.failures.push(`reason: ${status.reason}`);
    const events = world.events.filter((event) => event.kind === "array.broken");
    if (events.length !== 1) this.failures.push(`${events.length} events tell of it`);
    for (const command of [
      { kind: "stop-array", array },
      { kind: "start-array", array, force: true, readOnly: false },
      { kind: "delete-array", array, zeroSuperblocks: true },
      { kind: "detach-drive", name: side.drives[1]!, force: true },
    ] as const) {
      const answer = world.run(this.command(command));
      if (!answer.ok && answer.error.code === "array-broken") continue;
      this.failures.push(`${command.kind} of a broken array: ${JSON.stringify(answer)}`);
    }
    for (const job of world.must<"list-jobs">({ kind: "list-jobs" })) {
      if (job.array === array && (job.state === "running" || job.state === "paused")) {
        this.failures.push(`job ${job.id} (${job.kind}) of a broken array is ${job.state}`);
      }
    }
  }

  private stopAll(): void {
    const { world } = this;
    const answer = world.run(this.command({ kind: "shutdown" }), LIMIT_MS);
    if (!answer.ok) this.failures.push(`shutdown: ${answer.error.detail}`);
    world.simulation.runFor(1000);
  }

  private checkPools(): void {
    const { table } = this.world.context;
    const now = this.poolsNow();
    if (String(now) !== String(this.poolsBefore)) {
      this.failures.push(`of the pools ${now} bytes are free, and were ${this.poolsBefore}`);
    }
    const lost = table.capacity - table.available;
    if (lost > LOST_REQUESTS_MAX) this.failures.push(`${lost} requests of the table are lost`);
  }

  private assembleAgain(side: Side, all: ReturnType<SimWorld["crash"]>): void {
    const images = all.filter(({ name }) => side.drives.includes(name));
    const known = images.map(superblockOf).filter((found) => typeof found !== "string");
    // It broke before a superblock of it was durable.
    if (known.length < 3 || side.sectorCount === 0) return;
    side.oracle.crash();
    const world = SimWorld.restart(images, { seed: this.seed + 1, latency: LATENCY });
    const refusals = world.startArrays();
    if (refusals.length > 0) {
      const freshest = known.reduce((one, other) => (other.events > one.events ? other : one));
      // On disk, where the break is: in memory a rebuild may have been at its end.
      const isWhole = ({ events, devNumber, recoveryOffsetSectors }: Superblock): boolean =>
        events >= freshest.events - 1 &&
        recoveryOffsetSectors === null &&
        freshest.devRoles[devNumber]! < freshest.memberCount;
      const isDegraded = known.filter(isWhole).length < freshest.memberCount;
      const isAllowed = isDegraded && policyOf(freshest) !== "ppl";
      if (!isAllowed) this.failures.push(`assembled again: ${refusals[0]!.detail}`);
      return;
    }
    this.readAll(world, side, "assembled again");
    world.settle({ array: side.name });
    if (world.status(side.name).degraded === 0) {
      const mismatchBytes = world.check(side.name);
      if (mismatchBytes > 0) this.failures.push(`${mismatchBytes} bytes of parity are wrong`);
    }
  }

  // Shared -----------------------------------------------------------------------------------

  /** From the break on nothing reaches a drive of a broken array. */
  private watchWrites(): void {
    const sideOf = new Map(this.sides.flatMap((side) => side.drives.map((name) => [name, side])));
    for (const [name, side] of sideOf) {
      const device = this.world.device(name);
      const submit = device.submit.bind(device);
      device.submit = (request: number): void => {
        const { broken } = this.world.service.registry.byName(side.name) ?? {};
        if (broken?.drives.has(this.world.service.registry.drives.get(name)!) === true) {
          const op = this.world.context.table.op[request];
          if (op !== 0) this.failures.push(`op ${op} was submitted to ${name} after the break`);
        }
        submit(request);
      };
    }
  }

  private isBroken({ name }: Side): boolean {
    return (this.world.service.registry.byName(name)?.broken ?? null) !== null;
  }

  private poolsNow(): readonly number[] {
    const { enginePool, payloadPool } = this.world.context;
    return [enginePool.freeBytes, payloadPool.freeBytes];
  }

  private async command(command: Command): Promise<Result<unknown, CommandError>> {
    const result = await this.world.command(command as never);
    const answer = result as Result<unknown, CommandError>;
    if (!answer.ok && answer.error.code === "defect") this.hasDefect = true;
    return answer;
  }

  private must(command: Command): void {
    const answer = this.world.run(this.command(command));
    if (!answer.ok) this.failures.push(`${command.kind}: ${answer.error.detail}`);
  }
}
