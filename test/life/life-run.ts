/**
 * One seeded sequence: lives of the daemon on one machine, with what operators, clients, disks and
 * the state directory do to them, and what must be true all the while (README.md has the oracle).
 *
 *   a first array ─► lives: commands, clients, faults (safety) ─► faults stop (life-end.ts)
 *                      └─ SIGTERM, SIGKILL, power cut ─► start ─┘
 */

import { parseUuid } from "../../src/appliance/state/labels.ts";
import type { ArrayStatus, JobStatus } from "../../src/array/protocol.ts";
import { inBackground } from "../../src/base/background.ts";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { ArrayTruth } from "./array-truth.ts";
import { arraySubject, exportSubject, Ledger } from "./ledger.ts";
import { LifeClient } from "./life-client.ts";
import type { LifeCounts } from "./life-counts.ts";
import { endLife, letGoOfFailed } from "./life-end.ts";
import { betweenLives, strike } from "./life-faults.ts";
import { type ApiAnswer, LifeProcess } from "./life-process.ts";
import {
  adding,
  creation,
  exporting,
  issue,
  LABELS,
  operate,
  sharing,
  slowing,
} from "./operators.ts";
import { type Disk, SimHost } from "./sim-host.ts";
import { SimStateFile } from "./sim-state-file.ts";

const LIVES_MAX = 3;
const STEPS_MAX = 14;
const STEP_MS_MAX = 400;
const LONG_STEP_MS = 40_000;
const CLIENTS_MAX = 3;
const QUIET_MS = 200_000;
const SHARED_CAUSES: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EBADE"]);

export class LifeFailure extends Error {
  override readonly name = "LifeFailure";
}

/** Runs one seed; throws with the line that repeats it. The answer is the hash of all that was. */
export function runLife(seed: number, counts: LifeCounts): string {
  return new LifeRun(seed, counts).guarded();
}

export class LifeRun {
  readonly seed: number;
  readonly counts: LifeCounts;
  readonly random: SeededRandom;
  readonly host: SimHost;
  readonly stateFile: SimStateFile;
  readonly ledger = new Ledger();
  readonly truths = new Map<string, ArrayTruth>();
  private current: LifeProcess | null = null;
  private statuses = new Map<string, ArrayStatus>();
  /** Of each array, the disks that held it when it was whole. */
  private readonly membersOf = new Map<string, Set<string>>();
  /** By disk: the stamps that arrays left on it. */
  private readonly stampsOn = new Map<string, Set<number>>();
  readonly failedByHand = new Set<string>();
  private clients: LifeClient[] = [];
  private violation: string | null = null;
  private suspicions: { readonly truth: ArrayTruth; readonly message: string }[] = [];
  private isGrowthAsked = false;
  private wallAheadMs = 0;
  private nextStamp = 1;
  private seenEventId = 0;
  readonly diary: string[] = [];

  constructor(seed: number, counts: LifeCounts) {
    this.seed = seed;
    this.counts = counts;
    this.random = new SeededRandom(seed);
    this.host = new SimHost({ random: this.random.split() });
    this.stateFile = new SimStateFile({ random: this.random.split() });
  }

  guarded(): string {
    try {
      return this.run();
    } catch (error) {
      const { name, message, stack } = error as Error;
      const what = error instanceof LifeFailure ? message : `${name}: ${message}\n${stack ?? ""}`;
      const trace = this.current?.world.simulation.recentTrace ?? [];
      const told = trace.filter((line) => / (log|event) /.test(line));
      throw new LifeFailure(
        [
          `SEED=${this.seed} bun test test/life`,
          what.split("\nSEED=")[0],
          ...this.diary.slice(-60),
          ...told.slice(-30),
        ].join("\n"),
      );
    }
  }

  private run(): string {
    this.begin();
    this.found();
    const lives = 1 + nextBelow(this.random, LIVES_MAX);
    for (let life = 0; life < lives; life += 1) {
      this.live();
      this.endProcess();
      this.begin();
    }
    endLife(this);
    return this.process.world.simulation.traceHash;
  }

  // For those that act on it -------------------------------------------------------------------

  get process(): LifeProcess {
    if (this.current === null) throw new Error("no process runs");
    return this.current;
  }

  bump(what: string): void {
    if (what.startsWith("fault: ")) this.note(what);
    this.counts.bump(what.includes(": ") ? what : `command: ${what}`);
  }

  violate(message: string): void {
    this.violation ??= message;
  }

  suspect(truth: ArrayTruth, message: string): void {
    this.suspicions.push({ truth, message });
  }

  fail(message: string): never {
    throw new LifeFailure(message);
  }

  check(): void {
    if (this.violation !== null) this.fail(this.violation);
  }

  note(text: string): void {
    this.diary.push(`${(this.current?.nowMs ?? 0).toFixed(1)} ${text}`);
  }

  mayLackSpace(): boolean {
    return this.host.fileSystems.some(({ isFull }) => isFull);
  }

  mayBeFenced({ uuid }: ArrayTruth): boolean {
    const isTaken = [...this.host.disks.values()].some(({ isFenced }) => isFenced);
    const listed = this.process.world.call<"list-arrays">({ kind: "list-arrays" });
    return (
      isTaken ||
      (listed.ok && listed.value.some((array) => array.uuid === uuid && array.state === "fenced"))
    );
  }

  /** The array that is offered there, for certain. */
  truthOf(exportName: string): ArrayTruth | null {
    const { ledger } = this;
    const entry = ledger.exports.get(exportName);
    if (entry === undefined) return null;
    const subjects = [exportSubject(exportName), arraySubject(entry.uuid)];
    const isSure = subjects.every((each) => !ledger.isBlurred(each) && !ledger.isTouched(each));
    return isSure ? (this.truths.get(entry.uuid) ?? null) : null;
  }

  truthsOf(disk: Disk): ArrayTruth[] {
    const uuids = new Set([this.host.memberOn(disk)?.arrayUuid]);
    for (const [uuid, members] of this.membersOf) if (members.has(disk.id)) uuids.add(uuid);
    return [...uuids].flatMap((uuid) => this.truths.get(uuid ?? "") ?? []);
  }

  isWhole({ uuid }: ArrayTruth): boolean {
    // With the daemon gone, as it was last seen.
    const status = this.statuses.get(uuid);
    if (status === undefined || status.state === "inactive") return this.current === null;
    const action = status.sync.action;
    return status.degraded === 0 && action !== "resync" && action !== "rebuild";
  }

  onCreated({ body }: ApiAnswer, drives: readonly string[]): void {
    const disks = drives.flatMap((name) => this.host.diskOfDrive(name) ?? []);
    this.addTruth(body, disks);
    this.membersOf.set(body.uuid, new Set(disks.map(({ id }) => id)));
  }

  onForced(uuid: string): void {
    const truth = this.truths.get(uuid);
    truth?.worsen("may-lose");
    truth?.forgetAll();
  }

  onGrowthAsked(): void {
    this.isGrowthAsked = true;
  }

  onGrowing({ arrayUuid, result }: JobStatus, addedMembers: number): void {
    const truth = this.truths.get(arrayUuid);
    if (truth === undefined) return;
    const members = Number(result["members"]);
    // The growth before it has come to its end, seen or not.
    if (truth.promisedMembers === members - addedMembers)
      this.growTo(truth, members - addedMembers);
    if (members <= truth.size.memberCount) this.fail(`a growth to ${members} members`);
    truth.promisedMembers = members;
  }

  private addTruth(status: ArrayStatus, disks: readonly Disk[] | null): void {
    const formers = new Set<number>();
    for (const { id } of disks ?? []) {
      for (const stamp of this.stampsOn.get(id) ?? []) formers.add(stamp);
    }
    const stampSeed = (this.seed * 64 + this.nextStamp) >>> 0;
    this.nextStamp += 1;
    const truth = new ArrayTruth({
      ...{ uuid: status.uuid, stampSeed, policy: status.consistencyPolicy },
      size: { memberCount: status.members.length, sectorCount: status.sizeBytes / SECTOR_BYTES },
      isBlank: disks !== null && formers.size === 0,
      isFormer: (seed) => disks === null || formers.has(seed),
    });
    this.truths.set(status.uuid, truth);
    for (const { id } of disks ?? []) this.noteStamp(id, truth);
    if (disks !== null) return;
    // What a create that failed has left, or another host: nobody promised that it can be started.
    const here = [...this.host.disks.values()].filter(
      (disk) => this.host.memberOn(disk)?.arrayUuid === status.uuid,
    );
    if (here.length < status.members.length) truth.worsen("may-lose");
  }

  private noteStamp(diskId: string, { stampSeed }: ArrayTruth): void {
    const stamps = this.stampsOn.get(diskId) ?? new Set();
    stamps.add(stampSeed);
    this.stampsOn.set(diskId, stamps);
  }

  // Lives --------------------------------------------------------------------------------------

  /** What a first operator does: disks, an array, an export. */
  private found(): void {
    const { host, random } = this;
    const count = 5 + nextBelow(random, 3);
    // On some machines all members share one file system, which may be full.
    const oneFileIn = nextBelow(random, 4) === 0 ? 1 : 4;
    for (let index = 0; index < count; index += 1) {
      const fileSystem = nextBelow(random, oneFileIn) === 0 ? host.fileSystems[1] : undefined;
      host.addDisk({ fileSystem, tellsId: nextBelow(random, 4) > 0 });
    }
    const names: string[] = [];
    for (const { number, path } of [...host.disks.values()].slice(0, count - 1)) {
      names.push(`d${number}`);
      this.await(issue(this, adding(this, `d${number}`, path)));
    }
    const consistencyPolicy = (["ppl", "bitmap", "resync"] as const)[nextBelow(random, 3)]!;
    const [name] = LABELS;
    this.await(issue(this, creation(this, { name, drives: names.slice(0, 3), consistencyPolicy })));
    const [, , , fourth] = names;
    if (fourth !== undefined && nextBelow(random, 2) === 0) {
      this.await(issue(this, sharing(this, fourth)));
    }
    this.await(issue(this, exporting(this, "x", name)));
    // On some machines a growth in members is under way when other things happen.
    if (nextBelow(random, 2) === 0) this.await(issue(this, slowing(this, name)));
    this.audit();
  }

  await<T>(promise: Promise<T>): T {
    inBackground(promise, null);
    return this.process.world.run(promise);
  }

  private live(): void {
    const { random } = this;
    for (let step = nextBelow(random, STEPS_MAX); step >= 0; step -= 1) {
      this.act();
      const isLong = nextBelow(random, 12) === 0;
      const forMs = isLong ? LONG_STEP_MS : nextBelow(random, STEP_MS_MAX);
      this.process.world.simulation.runFor(forMs);
      this.check();
      this.observe();
      if (!this.ledger.isQuiet || nextBelow(random, 3) > 0) continue;
      this.audit();
      letGoOfFailed(this);
    }
  }

  private act(): void {
    const { random } = this;
    switch (nextBelow(random, 6)) {
      case 0:
      case 1:
      case 2:
        for (let count = 1 + nextBelow(random, 3); count > 0; count -= 1) operate(this);
        break;
      case 3:
        strike(this);
        break;
      default:
        this.connect();
    }
  }

  connect(): void {
    this.clients = this.clients.filter(({ isDone }) => !isDone);
    if (this.clients.length >= CLIENTS_MAX) {
      this.clients[0]!.leave();
      return;
    }
    const names = [...this.ledger.exports.keys()];
    const name = names[nextBelow(this.random, Math.max(1, names.length))];
    if (name === undefined) return;
    const client = new LifeClient(this, name);
    this.clients.push(client);
    inBackground(client.run(3 + nextBelow(this.random, 20)), null);
  }

  begin(): void {
    const { host, stateFile, random } = this;
    if (stateFile.trouble === "damaged" || stateFile.trouble === "gone") this.ledger.blurAll();
    const uuids = random.split();
    const newUuid = (): string => {
      const words = Array.from({ length: 4 }, () => uuids.nextU32().toString(16).padStart(8, "0"));
      return parseUuid(words.join(""))!;
    };
    this.current = new LifeProcess({
      ...{ host, stateFile, newUuid },
      random: random.split(),
      wallAheadMs: this.wallAheadMs,
    });
    this.note("the daemon starts");
    if (nextBelow(random, 3) > 0) this.process.world.simulation.runFor(2_000);
  }

  private endProcess(): void {
    const { random } = this;
    this.observe();
    this.wallAheadMs += this.process.nowMs;
    const how = (["SIGTERM", "SIGTERM", "SIGKILL", "power cut"] as const)[nextBelow(random, 4)]!;
    this.note(how);
    this.bump(`end: ${how}`);
    if (this.isGrowing()) this.bump("end: in a growth in members");
    if (how === "SIGTERM") {
      if (!this.terminate()) this.afterCrash();
    } else {
      if (how === "SIGKILL") this.process.kill();
      else this.process.cutPower((["keep", "drop", "random"] as const)[nextBelow(random, 3)]!);
      this.afterCrash();
    }
    // That a spare was taken could not be recorded, and its drive's name may lead elsewhere now.
    if (this.stateFile.trouble !== "none") this.ledger.blurTakenSpares();
    this.current = null;
    this.clients = [];
    betweenLives(this, { isBoot: how === "power cut" });
  }

  private isGrowing(): boolean {
    return [...this.statuses.values()].some(({ sync }) => sync.action === "reshape");
  }

  /** SIGTERM, and what must be true of a clean stop. */
  terminate(): boolean {
    const hung = [...this.host.disks.values()].filter(({ manner }) => manner === "hangs");
    const fenced = new Set([...this.truths.values()].filter((truth) => this.mayBeFenced(truth)));
    // A command that is under way comes to its end, or is refused: nobody hears of it here.
    if (!this.process.stop()) {
      // Two members that hang are waited for: their controller may be stalled (write-rules 14). So
      // is one that its array cannot do without, as any is in a resync. A process would leave after
      // its stopSeconds.
      const isNeeded = hung.some((disk) =>
        this.truthsOf(disk).some(({ uuid, out }) => {
          return out.size > 1 || this.statuses.get(uuid)?.sync.action === "resync";
        }),
      );
      if (hung.length < 2 && !isNeeded) this.fail(`SIGTERM: no end: ${this.ledger.openTexts}`);
      this.bump("end: killed after SIGTERM");
      return false;
    }
    this.check();
    this.ledger.abandon();
    for (const truth of this.truths.values()) {
      // What was acknowledged is durable now; what was not answered is old or new. Where another
      // host has the disks nothing can be flushed.
      const flush = truth.oracle.beginFlush();
      truth.oracle.endFlush(flush, { isDone: truth.trouble === "none" && !fenced.has(truth) });
      truth.crash({ isTorn: false });
    }
    return true;
  }

  private afterCrash(): void {
    this.ledger.abandon();
    for (const truth of this.truths.values()) {
      const isHole = truth.out.size > 0 || !this.isWhole(truth);
      truth.crash({ isTorn: isHole });
      // The write hole, which only the log closes; a start is refused then, until it is forced.
      if (isHole && truth.policy !== "ppl") truth.worsen("may-fail");
      if (truth.policy !== "ppl") truth.mayBeResynced = true;
    }
  }

  wasWholeAtStop(uuid: string): boolean {
    const status = this.statuses.get(uuid);
    const isStopped = status?.state === "inactive" && status.isHeld;
    return status !== undefined && !isStopped && status.degraded === 0 && status.state === "clean";
  }

  isMember(uuid: string, diskId: string): boolean {
    return this.membersOf.get(uuid)?.has(diskId) === true;
  }

  // What is seen -------------------------------------------------------------------------------

  /** How the arrays stand, and who holds what they hold. */
  observe(): void {
    const listed = this.process.world.call<"list-arrays">({ kind: "list-arrays" });
    if (!listed.ok) return;
    const before = this.statuses;
    this.statuses = new Map(listed.value.map((status) => [status.uuid, status]));
    for (const status of listed.value) {
      this.bump(`state: ${status.state}`);
      if (status.sync.action === "reshape") this.bump(`state: ${status.state}, growing in members`);
      if (status.state === "broken") this.fail(`array ${status.name} is broken: ${status.reason}`);
      this.judgeSeats(status);
      this.judgeFaulty(status);
      const truth = this.truths.get(status.uuid);
      if (truth === undefined) continue;
      truth.policy = status.consistencyPolicy;
      this.observeSize(truth, status);
      this.observeMembers(truth, status, before.get(status.uuid));
    }
    for (const truth of this.truths.values()) {
      if (!this.statuses.has(truth.uuid)) this.observeAbsent(truth);
    }
    for (const { truth, message } of this.suspicions.splice(0)) {
      if (truth.trouble === "none") this.fail(message);
    }
  }

  /** It has the members and the size that it had, or that somebody wanted it to have. */
  private observeSize(truth: ArrayTruth, { name, state, members, sizeBytes }: ArrayStatus): void {
    if (state === "inactive" || state === "absent") return;
    const { promisedMembers, size, trouble } = truth;
    const sectors = sizeBytes / SECTOR_BYTES;
    const count = members.length;
    const isKnown = count === size.memberCount && count >= promisedMembers;
    const isWanted = count > size.memberCount && count >= promisedMembers && this.isGrowthAsked;
    const isThrough = isWanted && sectors === truth.sectorsWith(count);
    if ((isKnown || isWanted) && sectors === truth.sectorCount) return;
    if (isThrough) {
      this.growTo(truth, count);
      return;
    }
    const what = `${name} (${truth.uuid}) has ${count} members and ${sectors} sectors`;
    const before = `${size.memberCount} and ${size.sectorCount}, ${promisedMembers} are promised`;
    if (trouble !== "may-lose") this.fail(`${what}; it had ${before}`);
    // Forced from drives that the growth had left behind.
    truth.promisedMembers = 0;
  }

  private growTo(truth: ArrayTruth, memberCount: number): void {
    if (truth.size.memberCount >= memberCount) return;
    truth.grow(memberCount);
    this.bump("check: grown in members");
  }

  /** No drive is shown in sync in a seat that its disk does not fill. */
  private judgeSeats({ uuid, name, members, eventCount }: ArrayStatus): void {
    for (const { role, drive, state } of members) {
      // At event 0 it is just being created.
      if (state !== "in-sync" || drive === null || eventCount === 0) continue;
      const disk = this.host.diskOfDrive(drive);
      const member = disk === null || !disk.isPlugged ? null : this.host.memberOn(disk);
      if (member === null) continue;
      const isIts = member.arrayUuid === uuid && member.role === role;
      // An update may be under way, of which the drives hear one after the other.
      if (isIts && member.events >= eventCount - 2) continue;
      // Its first superblocks are on their way to drives of another array.
      if (eventCount <= 1 && member.arrayUuid !== uuid) continue;
      const what = `${drive} (role ${member.role}, event ${member.events}, ${member.arrayUuid})`;
      this.fail(`${name} (${uuid}), at event ${eventCount}: role ${role} is shown as ${what}`);
    }
  }

  /** What all members meet is no fault of one (write-rules 20 and 21). */
  private judgeFaulty({ name, uuid, members }: ArrayStatus): void {
    for (const { drive, state, errorKinds } of members) {
      const kinds = Object.keys(errorKinds);
      if (state !== "faulty" || kinds.length === 0) continue;
      if (drive === null || this.failedByHand.has(drive)) continue;
      if (kinds.every((kind) => SHARED_CAUSES.has(kind))) {
        this.fail(`${name} (${uuid}): ${drive} is faulty for ${kinds}`);
      }
    }
  }

  /** Of an array that is not here: whether its disks still are what they were. */
  private observeAbsent(truth: ArrayTruth): void {
    for (const id of this.membersOf.get(truth.uuid) ?? []) {
      const isOurs = this.host.memberOn(this.host.disk(id))?.arrayUuid === truth.uuid;
      if (!isOurs) truth.out.add(id);
    }
    if (truth.out.size > 1) truth.worsen("may-lose");
  }

  private observeMembers(
    truth: ArrayTruth,
    status: ArrayStatus,
    before: ArrayStatus | undefined,
  ): void {
    const { host } = this;
    const isRunning = !["inactive", "failed", "read-only"].includes(status.state);
    const disks = status.members.map(({ drive }) => (drive && host.diskOfDrive(drive)) || null);
    for (const disk of disks) if (disk !== null) this.noteStamp(disk.id, truth);
    // It lost a member before its (first) resync was through: rows that nobody wrote are unproven,
    // and it is read-only if that followed a crash. A spare may have taken the role since.
    const isEarly = before?.sync.action === "resync" || truth.mayBeResynced || !truth.wasWhole;
    const hasLostOne =
      status.degraded > 0 ||
      before?.members.some(({ drive }, role) => drive !== status.members[role]?.drive) === true;
    const isServed = isRunning || status.state === "read-only";
    if (isEarly && isServed && hasLostOne) truth.loseUnproven();
    const isWhole =
      isRunning &&
      status.degraded === 0 &&
      status.sync.action !== "resync" &&
      disks.every((disk) => disk?.isPlugged === true && disk.manner !== "hangs") &&
      status.members.every(({ state }) => state === "in-sync");
    if (isWhole) {
      truth.out.clear();
      truth.wasWhole = true;
      truth.mayBeResynced = false;
      this.membersOf.set(truth.uuid, new Set(disks.map((disk) => disk!.id)));
      return;
    }
    const inSync = new Set<string>();
    for (const [role, { state }] of status.members.entries()) {
      if (state === "in-sync" && disks[role]) inSync.add(disks[role].id);
    }
    for (const id of this.membersOf.get(truth.uuid) ?? []) {
      const isOurs = host.memberOn(host.disk(id))?.arrayUuid === truth.uuid;
      if (!isOurs || (status.state !== "inactive" && !inSync.has(id))) truth.out.add(id);
    }
    if (truth.out.size > 1) truth.worsen("may-lose");
  }

  /** With nothing under way: what the daemon says against what it has promised. */
  audit(): void {
    const { process, ledger } = this;
    const arrays = process.ask("GET", "/v1/arrays");
    const exports = process.ask("GET", "/v1/exports");
    const schedules = process.ask("GET", "/v1/schedules");
    const drives = process.ask("GET", "/v1/drives");
    const spares = process.ask("GET", "/v1/spares");
    if (!ledger.isQuiet) return;
    if (arrays.status !== 200) this.fail(`GET /v1/arrays: ${JSON.stringify(arrays)}`);
    const found = {
      ...{ arrays: arrays.body, exports: exports.body },
      ...{ schedules: schedules.body, drives: drives.body },
    };
    for (const status of found.arrays as ArrayStatus[]) {
      const isNew = !this.truths.has(status.uuid) && status.sizeBytes > 0;
      if (isNew && status.sync.action !== "reshape") this.addTruth(status, null);
    }
    const [fault] = ledger.audit({ ...found, spares: spares.body });
    if (fault !== undefined) this.fail(`audit: ${fault}`);
    this.bump("check: audit");
    const { events } = process.appliance;
    for (const { kind } of events.since(this.seenEventId, 1_000)) {
      if (kind === "spare.taken") this.bump("check: a shared spare was taken");
    }
    this.seenEventId = events.lastId;
  }

  /** Lets commands come to their ends. */
  quiet(): void {
    const { simulation } = this.process.world;
    for (const client of this.clients) client.leave();
    const isQuiet = () => this.ledger.isQuiet && this.clients.every(({ isDone }) => isDone);
    const endMs = simulation.nowMs() + QUIET_MS;
    while (!isQuiet() && simulation.nowMs() < endMs) simulation.runFor(20);
    if (!isQuiet()) this.fail(`no answer after ${QUIET_MS} ms: ${this.ledger.openTexts}`);
    this.check();
  }

  /** Adds the disks that no drive is, as an operator who has them at hand. */
  addDisks(): void {
    const { host, ledger } = this;
    for (const disk of host.disks.values()) {
      if (!disk.isPlugged || host.isOpen(disk) || host.twins.has(disk)) continue;
      let name = `d${disk.number}`;
      while (ledger.drives.has(name)) name += "-again";
      this.await(issue(this, adding(this, name, disk.byId ?? disk.path)));
    }
  }
}
