/**
 * One life of an array that is laid out over more members, drawn from a seed: how many there were
 * and come, clients that write, read, zero and trim all the while, and what happens to it.
 *
 * | cause      | what                                                                        |
 * |------------|-----------------------------------------------------------------------------|
 * | passing    | drives are slow, answer short, refuse, and have weak sectors                |
 * | room       | some drive has no room for a while                                          |
 * | stop       | the array is stopped and started                                            |
 * | power cut  | what was not flushed is kept, dropped, or some of it                        |
 * | fence      | another host has the drives for a while                                     |
 * | hang       | a member does not answer for a while                                        |
 * | loss       | one member is gone, for good; at most one in a life                         |
 *
 * In the end the array has its new size, every byte is what the clients know or what nobody wrote,
 * where an independent computation says that it lies, and each row has its parity.
 */
import { assert } from "../../../src/base/assert.ts";
import { EIO, ENXIO } from "../../../src/base/errno.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { type DeviceImage, patchImage } from "../world/media.ts";
import {
  parityMismatches,
  readArraySector,
  superblockOf,
  viewMembers,
} from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient, type SectorRange } from "../world/oracle-client.ts";
import type { CrashPolicy } from "../world/sim-device.ts";
import { NO_FAULTS } from "../world/sim-faults.ts";
import { SimSpace } from "../world/sim-space.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const DEVICE_BYTES = 3 * MIB;
const CLIENTS = 6;
const ENDS_MAX = 6;
const CUTS: readonly CrashPolicy[] = ["keep", "drop", "random"];
const CHUNKS = [4 * KIB, 8 * KIB, 16 * KIB];
const PASSING = { ...NO_FAULTS, transient: 0.01, short: 0.02, readMedia: 0.002, slow: 0.002 };

export interface ReshapeOptions {
  readonly seed: number;
  /** Drawn where it is not given. */
  readonly members?: number;
  readonly added?: number;
}

export class ReshapeLife {
  readonly names: string[];
  readonly members: number;
  readonly added: number;
  readonly chunkBytes: number;
  readonly stripes: number;
  /** How it went: for the counts of a run. */
  readonly causes = new Map<string, number>();
  private readonly seed: number;
  private readonly random: SeededRandom;
  private readonly oracle: SectorOracle;
  private world: SimWorld;
  private lost: string | null = null;
  private isWriting = false;
  private underWay = 0;
  private readonly mayLose: boolean;
  private readonly isPassing: boolean;

  constructor({ seed, members, added }: ReshapeOptions) {
    this.seed = seed;
    this.random = new SeededRandom(seed);
    const { random } = this;
    this.members = members ?? 3 + nextBelow(random, 4);
    this.added = added ?? 1 + nextBelow(random, 2);
    this.chunkBytes = CHUNKS[nextBelow(random, CHUNKS.length)]!;
    this.stripes = 4 + nextBelow(random, 40);
    this.mayLose = nextBelow(random, 3) === 0;
    this.isPassing = nextBelow(random, 2) === 0;
    this.names = Array.from({ length: this.members + this.added }, (_, index) => `d${index}`);
    const sectorCount = this.sizeOf(this.members + this.added) / SECTOR_BYTES;
    this.oracle = new SectorOracle({ seed, sectorCount });
    const made = new SimWorld({ seed });
    for (const name of this.names) made.addDrive({ name, sizeBytes: DEVICE_BYTES });
    made.createArray({
      drives: this.names.slice(0, this.members),
      chunkBytes: this.chunkBytes,
      memberSizeBytes: this.stripes * this.chunkBytes,
      consistencyPolicy: "resync",
    });
    made.settle();
    made.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    this.world = this.restart(made.images().map((image) => this.used(image)));
    const all = { lba: 0, sectors: this.oldSectors };
    const status = this.world.run(this.client().write(all, { fua: true }));
    assert(status === 0, "an array takes its first data");
  }

  private sizeOf(members: number): number {
    return this.stripes * (members - 1) * this.chunkBytes;
  }

  private get oldSectors(): number {
    return this.sizeOf(this.members) / SECTOR_BYTES;
  }

  /** Drives that held other data before: also those that come. */
  private used(image: DeviceImage): DeviceImage {
    const superblock = superblockOf(image);
    const isMember = typeof superblock !== "string";
    const from = isMember
      ? (superblock.dataOffsetSectors + superblock.sizeSectors) * SECTOR_BYTES
      : MIB / 2;
    const bytes = new Uint8Array(image.sizeBytes - from);
    const salt = image.name.charCodeAt(1) * 31;
    for (let index = 0; index < bytes.length; index += 1) bytes[index] = index * 7 + salt;
    return patchImage(image, from, bytes);
  }

  private restart(images: readonly DeviceImage[]): SimWorld {
    const world = SimWorld.restart(images, { seed: this.seed, batchChance: 0.5 });
    // A sector that is not read beside a member that is lost is lost, too.
    const rates = this.mayLose ? { ...PASSING, readMedia: 0 } : PASSING;
    if (this.isPassing) for (const device of world.devices.values()) device.faults.rates = rates;
    return world;
  }

  private client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  private count(cause: string): void {
    this.causes.set(cause, (this.causes.get(cause) ?? 0) + 1);
  }

  /** From its first request to its last. */
  run(): void {
    this.begin();
    const speed = 1 + nextBelow(this.random, 3);
    this.slowDown(speed);
    for (let end = 0; end < ENDS_MAX && this.world.status().sync.action === "reshape"; end += 1) {
      this.live(nextBelow(this.random, 40) / 2);
      this.happen();
    }
    this.judge();
  }

  private begin(): void {
    const drives = this.names.slice(this.members);
    this.startClients();
    this.world.must<"add-members">({
      ...{ kind: "add-members", array: ARRAY_NAME, drives, force: true, policyAfter: "resync" },
    });
  }

  /** So that it does not end before something happens. */
  private slowDown(factor: number): void {
    const syncSpeedMax = Math.round((this.stripes * this.chunkBytes * 20) / factor);
    this.world.must<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, syncSpeedMin: 1, syncSpeedMax },
    });
  }

  private live(ms: number): void {
    if (!this.isWriting) this.startClients();
    this.world.simulation.runFor(ms);
  }

  private startClients(): void {
    this.isWriting = true;
    const { world } = this;
    for (let index = 0; index < CLIENTS; index += 1) void this.work(world);
  }

  private async work(world: SimWorld): Promise<void> {
    const client = this.client();
    this.underWay += 1;
    while (this.isWriting && this.world === world) {
      const sectors = 1 + nextBelow(this.random, nextBelow(this.random, 4) === 0 ? 200 : 20);
      const count = Math.min(sectors, this.oldSectors);
      const range = { lba: nextBelow(this.random, this.oldSectors - count + 1), sectors: count };
      const draw = nextBelow(this.random, 20);
      const status = await this.send(client, draw, range);
      // What is refused at once is not asked for again in the same instant.
      if (status !== 0)
        await new Promise<void>((resume) => world.simulation.scheduleAfter(1, resume));
    }
    this.underWay -= 1;
  }

  private async send(client: OracleClient, draw: number, range: SectorRange): Promise<number> {
    if (draw < 10) return client.write(range, { fua: draw === 0 });
    if (draw === 16) return client.zero(range);
    if (draw === 17) return client.trim(range);
    if (draw > 17) return client.flush();
    const answer = await client.read(range);
    if (typeof answer !== "number") this.fail(answer.message);
    const isRefused = answer === EIO && !this.isPassing && this.lost === null;
    if (isRefused && this.world.status().state !== "fenced") this.fail("a read is refused");
    return answer;
  }

  private happen(): void {
    const draw = nextBelow(this.random, 9);
    if (draw < 3) this.cutPower();
    else if (draw === 3) this.stopAndStart();
    else if (draw === 4) this.fillUp();
    else if (draw === 5 && this.mayLose && this.lost === null) this.lose();
    else if (draw === 6) this.beFenced();
    else if (draw === 7) this.hang();
    else if (draw === 8) this.slowDown(1 + nextBelow(this.random, 6));
  }

  private cutPower(): void {
    this.count("power cut");
    this.isWriting = false;
    const policy = CUTS[nextBelow(this.random, CUTS.length)]!;
    const images = this.world.crash(policy).filter(({ name }) => name !== this.lost);
    this.oracle.crash();
    this.underWay = 0;
    this.world = this.restart(images);
    this.mustStart("after a power cut");
  }

  private stopAndStart(): void {
    this.count("stop");
    this.drain();
    this.world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    this.mustStart("after a stop");
  }

  private mustStart(when: string): void {
    if (this.world.status().state !== "inactive") return;
    const errors = this.world.startArrays();
    // Rows in the middle of a write have no parity to be had from: md would not start it either.
    const isTorn = this.lost !== null && errors.some(({ code }) => code === "dirty-and-degraded");
    if (errors.length > 0 && !isTorn) this.fail(`${when}: ${errors[0]!.detail}`);
    if (isTorn) throw new TornLife();
  }

  private fillUp(): void {
    this.count("room");
    const { world } = this;
    const space = new SimSpace({ random: new SeededRandom(this.seed), kind: "copy-on-write" });
    const device = world.devices.get(this.names[nextBelow(this.random, this.names.length)]!)!;
    space.fill([device]);
    world.simulation.scheduleAfter(50 + nextBelow(this.random, 400), () => {
      SimSpace.giveRoom([device]);
    });
  }

  /** Another host has the drives; then it lets go of them, and the array is started again. */
  private beFenced(): void {
    this.count("fence");
    const { world } = this;
    const devices = [...world.devices.values()].filter(({ name }) => name !== this.lost);
    for (const device of devices)
      device.reserve(nextBelow(this.random, 2) === 0 ? "nothing" : "reads");
    world.simulation.runFor(300);
    this.drain();
    world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    for (const device of devices) device.reserve(null);
    this.oracle.crash();
    this.mustStart("after a fence");
  }

  private hang(): void {
    this.count("hang");
    const { world } = this;
    const name = this.names[nextBelow(this.random, this.names.length)]!;
    if (name === this.lost) return;
    const device = world.device(name);
    device.hang();
    world.simulation.scheduleAfter(nextBelow(this.random, 8_000), () => device.release());
  }

  private lose(): void {
    this.count("loss");
    const name = this.names[nextBelow(this.random, this.names.length)]!;
    this.lost = name;
    const fault = { kind: "dead", errno: ENXIO } as const;
    this.world.device(name).faults.plan({ fault, count: Number.POSITIVE_INFINITY });
  }

  private drain(): void {
    this.isWriting = false;
    const { world } = this;
    for (const device of world.devices.values()) SimSpace.giveRoom([device]);
    const endMs = world.nowMs + 600_000;
    while (this.underWay > 0 && world.nowMs < endMs && world.simulation.step());
    if (this.underWay > 0) this.fail("requests are not answered");
  }

  private judge(): void {
    this.drain();
    const { world } = this;
    for (const device of world.devices.values()) {
      if (device.name !== this.lost) device.faults.quiet();
    }
    world.must<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: Number.MAX_SAFE_INTEGER },
    });
    const status = world.settle();
    // Lost before the resync that a crash made due: what is not proven waits for force.
    if (this.lost !== null && status.state === "read-only") throw new TornLife();
    const bytes = this.sizeOf(this.members + this.added);
    if (status.sizeBytes !== bytes) this.fail(`it has ${status.sizeBytes} of ${bytes} bytes`);
    const { status: read, data } = world.run(world.client().read(0, bytes));
    if (read !== 0) this.fail(`the array is not read: ${read}`);
    const wrong = this.oracle.peek(0, data);
    if (wrong !== null) this.fail(wrong.message);
    if (status.degraded === 0 && world.check() !== 0) this.fail("parity does not hold");
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const images = world.images().filter(({ name }) => name !== this.lost);
    const view = viewMembers(images.filter((image) => typeof superblockOf(image) !== "string"));
    if (view.memberCount !== this.members + this.added) this.fail("it has other members");
    if (status.degraded === 0) {
      const torn = parityMismatches(view);
      if (torn.length > 0) this.fail(`by computation rows ${torn.join(", ")} do not hold`);
    }
    for (let lba = 0; lba < bytes / SECTOR_BYTES; lba += 1) {
      const found = this.oracle.peek(lba, readArraySector(view, lba));
      if (found !== null) this.fail(`by computation: ${found.message}`);
    }
  }

  private fail(message: string): never {
    const { members, added, chunkBytes, stripes } = this;
    const what = `${members} + ${added} members, ${stripes} stripes of ${chunkBytes}`;
    return this.world.simulation.fail(`reshape life ${this.seed} (${what}): ${message}`);
  }
}

/** It lost a member, and the power in the middle of a write: it waits for force, as it ought to. */
export class TornLife extends Error {}
