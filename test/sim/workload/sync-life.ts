/**
 * A small array that goes through a sequence of steps, and what must hold after each (for
 * sync-orders.test.ts). Three members and a chunk of one row, so that a stripe is a row.
 */
import type { ArrayStatus, ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { assert } from "../../../src/base/assert.ts";
import { fillRandom, SeededRandom } from "../../../src/base/random.ts";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Role, roleOf, type Superblock } from "../../../src/md/superblock.ts";
import { blankImage, type DeviceImage, patchImage } from "../world/media.ts";
import { parityMismatches, superblockOf, viewMembers } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const STRIPES = 8;
const ROWS = STRIPES * 2;
const DRIVE_BYTES = 4 * MIB;
/** Of members without and with a partial parity log. */
const DATA_OFFSETS = [MIB, 2 * MIB];
/** A pass over all stripes takes two seconds. */
const SYNC_BYTES_PER_SECOND = (STRIPES * ROW_BYTES) / 2;
const HALF_PASS_MS = 1000;
const REST_LIMIT_MS = 120_000;

/** "half": in the middle of what runs; otherwise when all is at rest. */
export const STEPS = [
  ...["pull", "pull half", "fail half", "add", "add half", "drop target half", "cancel half"],
  ...["scrub", "scrub half", "write", "write half"],
  ...["stop", "stop half", "crash", "crash half"],
] as const;
export type Step = (typeof STEPS)[number];

export class SyncLife {
  /** What it came to. */
  readonly facts = new Set<string>();
  private world: SimWorld;
  private readonly random: SeededRandom;
  /** By row of the array: the byte that it was filled with, 0: nobody has written it. */
  private readonly written = new Uint8Array(ROWS);
  private readonly told: string[] = [];
  private readonly gone = new Set<string>();
  private isForced = false;
  private nextDrive = 0;
  private nextByte = 1;

  constructor({ policy, seed }: { policy: ConsistencyPolicy; seed: number }) {
    this.random = new SeededRandom(seed);
    this.world = new SimWorld({ seed, latency: { minMs: 0.05, tailMs: 0 } });
    for (const name of NAMES) this.plugNoisy(name);
    const memberSizeBytes = STRIPES * ROW_BYTES;
    const shape = { chunkBytes: ROW_BYTES, memberSizeBytes, consistencyPolicy: policy };
    this.world.createArray({ drives: NAMES, ...shape, force: true });
    this.slowDown();
    this.write(3);
    this.examine();
  }

  story(): string {
    const events = this.world.events.map(({ message }) => `  ${message}`);
    return [...this.told, ...events].join("\n");
  }

  /** False: it is not possible now. */
  take(step: Step): boolean {
    const isHalf = step.endsWith(" half");
    if (isHalf) this.world.simulation.runFor(HALF_PASS_MS);
    else this.rest();
    const action = isHalf ? step.slice(0, -" half".length) : step;
    const isDone = this.act(action);
    if (!isDone) return false;
    this.told.push(`${step}: ${JSON.stringify(this.brief())}`);
    this.noteFacts();
    this.examine();
    return true;
  }

  /** Stops it in the middle of what it does and at rest, and starts it from its drives. */
  end(): void {
    this.stopAndStartFrom({ isAtRest: false });
    this.rest();
    this.stopAndStartFrom({ isAtRest: true });
  }

  // Steps ------------------------------------------------------------------------------------

  private act(action: string): boolean {
    switch (action) {
      case "pull":
        return this.pull();
      case "fail":
        return this.fail();
      case "add":
        return this.add();
      case "drop target":
        return this.dropTarget();
      case "cancel":
        return this.cancel();
      case "scrub":
        return this.scrub();
      case "write":
        return this.write(2);
      case "stop":
        return this.stop();
      case "crash":
        return this.restart(this.there(this.world.crash("random")));
      default:
        throw new Error(`no step ${action}`);
    }
  }

  private pull(): boolean {
    const name = this.memberIn("in-sync");
    if (name === null || this.status().degraded > 0) return false;
    this.world.must({ kind: "detach-drive", name, force: true });
    this.forget(name);
    return true;
  }

  private fail(): boolean {
    const drive = this.memberIn("in-sync");
    if (drive === null || this.status().degraded > 0) return false;
    return this.world.call({ kind: "fail-member", array: ARRAY_NAME, drive }).ok;
  }

  private add(): boolean {
    if (this.status().sync.action === "rebuild" || this.status().spares.length > 0) return false;
    const drive = `new${this.nextDrive}`;
    this.nextDrive += 1;
    this.plugNoisy(drive);
    return this.world.call({ kind: "add-member", array: ARRAY_NAME, drive, force: true }).ok;
  }

  private dropTarget(): boolean {
    const name = this.memberIn("rebuilding");
    if (name === null) return false;
    this.world.must({ kind: "detach-drive", name, force: true });
    this.forget(name);
    return true;
  }

  private cancel(): boolean {
    const job = this.world
      .must<"list-jobs">({ kind: "list-jobs" })
      .find(({ state, kind }) => state === "running" && kind !== "resync");
    return job !== undefined && this.world.call({ kind: "cancel-job", id: job.id }).ok;
  }

  private scrub(): boolean {
    const scrub = {
      kind: "start-scrub",
      array: ARRAY_NAME,
      mode: "repair",
      restart: true,
    } as const;
    return this.world.call({ ...scrub, limitBytesPerSecond: SYNC_BYTES_PER_SECOND }).ok;
  }

  /** Writes some rows and flushes. */
  private write(count: number): boolean {
    if (this.status().state === "read-only") return false;
    for (let turn = 0; turn < count; turn += 1) {
      const row = this.random.nextU32() % ROWS;
      const byte = this.nextByte;
      this.nextByte = (this.nextByte % 255) + 1;
      const data = new Uint8Array(ROW_BYTES).fill(byte);
      this.must(this.world.run(this.world.client().write(row * ROW_BYTES, data)), "a write");
      this.written[row] = byte;
    }
    this.must(this.world.run(this.world.client().flush()), "a flush");
    return true;
  }

  private stop(): boolean {
    const { isExcused } = this;
    const images = this.stoppedImages();
    if (isExcused) return this.restart(images);
    this.world = this.mustStart(images, "with all that there was");
    this.slowDown();
    return true;
  }

  /** Lost in a resync after a crash, or forced and not yet whole: then rows are in question. */
  private get isExcused(): boolean {
    return this.isForced || this.status().state === "read-only";
  }

  private stoppedImages(): DeviceImage[] {
    this.world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    return this.images();
  }

  private restart(images: readonly DeviceImage[]): boolean {
    this.world = this.startFrom(images);
    return true;
  }

  private images(): DeviceImage[] {
    return this.there(this.world.images());
  }

  private there(images: readonly DeviceImage[]): DeviceImage[] {
    return images.filter(({ name }) => !this.gone.has(name));
  }

  // What must hold ---------------------------------------------------------------------------

  /** Below what the superblocks claim, parity holds; what was written reads back. */
  private examine(): void {
    const members = currentMembers(this.images());
    const whole = members.length === NAMES.length;
    const claimedRows = Math.min(...members.map(({ superblock }) => claimOf(superblock)));
    if (whole) {
      const view = viewMembers(members.map(({ image }) => image));
      const wrong = parityMismatches(view).map((offset) => offset / ROW_BYTES);
      const lies = wrong.filter((row) => row < claimedRows);
      assert(lies.length === 0, `in sync below ${claimedRows}, but parity is wrong in ${lies}`);
    }
    this.readAll(this.world);
  }

  private readAll(world: SimWorld): void {
    for (const [row, byte] of this.written.entries()) {
      if (byte === 0 || this.isUnproven(world)) continue;
      const { status, data } = world.run(world.client().read(row * ROW_BYTES, ROW_BYTES));
      this.must(status, `a read of row ${row}`);
      assert(
        data.every((each) => each === byte),
        `row ${row} holds ${data[0]} instead of ${byte}`,
      );
    }
  }

  /** A member was lost in the resync after a crash: some rows are EIO until it is forced. */
  private isUnproven(world: SimWorld): boolean {
    return world.status().state === "read-only";
  }

  /** Nothing runs and nothing is written: no member is in question. */
  private rest(): void {
    const status = this.world.settle({ limitMs: REST_LIMIT_MS });
    this.examine();
    if (status.degraded > 0 || status.state !== "clean") return;
    this.isForced = false;
    const members = currentMembers(this.images());
    assert(members.length === NAMES.length, "all roles have a member");
    for (const { image, superblock } of members) {
      const { resyncOffsetSectors, recoveryOffsetSectors } = superblock;
      const says = `${image.name}: resync ${resyncOffsetSectors} recovery ${recoveryOffsetSectors}`;
      const isClean = resyncOffsetSectors === null && recoveryOffsetSectors === null;
      assert(isClean, `at rest and in sync, and a member says otherwise: ${says}`);
    }
    const wrong = parityMismatches(viewMembers(members.map(({ image }) => image)));
    assert(wrong.length === 0, "at rest, and parity does not hold");
    assert(this.world.status().sync.action === "idle", "at rest");
  }

  private stopAndStartFrom({ isAtRest }: { isAtRest: boolean }): void {
    const { isExcused } = this;
    const { degraded } = this.status();
    const images = this.stoppedImages();
    const members = currentMembers(images);
    const isInQuestion = members.some(({ superblock }) => superblock.resyncOffsetSectors !== null);
    assert(!isInQuestion || degraded === 0 || isExcused, "stopped cleanly, and still in question");
    if (degraded === 0) {
      const tried = isAtRest ? members : members.slice(this.random.nextU32() % members.length);
      for (const { image } of tried.slice(0, isAtRest ? members.length : 1)) {
        const without = images.filter((each) => each !== image);
        if (isInQuestion) this.mustRefuse(without);
        else this.mustStart(without, `without ${image.name}`);
      }
    }
    this.world = isExcused ? this.startFrom(images) : this.mustStart(images, "with all");
    this.slowDown();
  }

  private mustStart(images: readonly DeviceImage[], what: string): SimWorld {
    const world = this.attachAll(images);
    for (const { detail } of world.startArrays()) throw new Error(`${what}: refused: ${detail}`);
    this.readAll(world);
    return world;
  }

  private mustRefuse(images: readonly DeviceImage[]): void {
    const [refusal] = this.attachAll(images).startArrays();
    assert(refusal?.code === "dirty-and-degraded", "rows await parity and a member is missing");
  }

  // Parts ------------------------------------------------------------------------------------

  /** Starts it, by force where it must be. */
  private startFrom(images: readonly DeviceImage[]): SimWorld {
    const world = this.attachAll(images);
    const [refusal] = world.startArrays();
    if (refusal !== undefined) {
      assert(refusal.code === "dirty-and-degraded", refusal.detail);
      this.facts.add("forced");
      this.isForced = true;
      assert(world.startArray({ force: true }).ok, "force starts it");
    }
    this.world = world;
    this.slowDown();
    return world;
  }

  private attachAll(images: readonly DeviceImage[]): SimWorld {
    const world = new SimWorld({ seed: 1, latency: { minMs: 0.05, tailMs: 0 } });
    for (const image of images) {
      world.plug(image);
      world.attach(image.name);
    }
    return world;
  }

  private slowDown(): void {
    const speed = { syncSpeedMax: SYNC_BYTES_PER_SECOND, syncSpeedMin: SYNC_BYTES_PER_SECOND };
    this.world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...speed });
  }

  private plugNoisy(name: string): void {
    const noise = new Uint8Array(STRIPES * ROW_BYTES);
    let image = blankImage({ name, sizeBytes: DRIVE_BYTES });
    for (const offset of DATA_OFFSETS) {
      fillRandom(this.random, noise);
      image = patchImage(image, offset, noise);
    }
    this.world.plug(image);
    assert(this.world.attach(name).ok, "a drive is attached");
  }

  /** It is taken home. */
  private forget(name: string): void {
    this.gone.add(name);
  }

  private status(): ArrayStatus {
    return this.world.status();
  }

  private brief(): unknown {
    const { state, degraded, sync } = this.status();
    const members = currentMembers(this.images()).map(({ image, superblock }) => {
      const { events, resyncOffsetSectors, recoveryOffsetSectors } = superblock;
      return [image.name, events, resyncOffsetSectors, recoveryOffsetSectors];
    });
    return { state, degraded, action: sync.action, members };
  }

  private noteFacts(): void {
    const { state, degraded, sync } = this.status();
    this.facts.add(state);
    if (degraded > 0 && sync.action === "rebuild") this.facts.add("rebuilding");
    if (sync.action === "resync") this.facts.add("resync due");
  }

  private memberIn(state: "in-sync" | "rebuilding"): string | null {
    const found = this.status().members.filter((member) => member.state === state);
    const chosen = found[this.random.nextU32() % Math.max(1, found.length)];
    return chosen?.drive ?? null;
  }

  private must(status: number, what: string): void {
    assert(status === 0, `${what} is answered ${status}`);
  }
}

interface Current {
  readonly image: DeviceImage;
  readonly superblock: Superblock;
}

/** The drives that the freshest superblock lists as members, as an assembly would take them. */
function currentMembers(images: readonly DeviceImage[]): Current[] {
  const known = images.flatMap((image): Current[] => {
    const superblock = superblockOf(image);
    if (typeof superblock === "string") return [];
    return roleOf(superblock, superblock.devNumber) < Role.limit ? [{ image, superblock }] : [];
  });
  const newest = Math.max(...known.map(({ superblock }) => superblock.events));
  const freshest = known.find(({ superblock }) => superblock.events === newest)!.superblock;
  return known.filter(({ superblock: { events, devNumber } }) => {
    return events >= newest - 1 && roleOf(freshest, devNumber) < freshest.memberCount;
  });
}

/** Rows of the members that a superblock claims to be in sync and filled. */
function claimOf({ resyncOffsetSectors, recoveryOffsetSectors }: Superblock): number {
  const rowOf = (sector: number | null): number =>
    sector === null ? Number.POSITIVE_INFINITY : Math.floor((sector * SECTOR_BYTES) / ROW_BYTES);
  return Math.min(rowOf(resyncOffsetSectors), rowOf(recoveryOffsetSectors));
}
