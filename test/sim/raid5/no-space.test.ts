/**
 * Goal: a want of space that several members share is no member's fault (write-rules 20): whenever
 * it comes, and however long it lasts, a write is refused with ENOSPC, nothing that was
 * acknowledged changes, no member is failed, nothing goes on a bad-block log, and space that comes
 * back cures everything. A chunk that only parity knows is not given up for another (rule 22).
 * Method: a small array with each policy, whole, degraded and in a rebuild, lives once without a
 * fault, which counts its writes; then the space under all drives (or some) is gone from the Nth
 * write on: a day takes its share of the Ns, and four days in a row take all. The promises of rule
 * 22 are asked of each pair of members.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { EIO, ENOSPC, ENXIO, errnoName } from "../../../src/base/errno.ts";
import { SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { withFineBitmap } from "../world/fine-bitmap.ts";
import { areasOf, superblockOf } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { SimClient } from "../world/sim-clients.ts";
import type { SimDevice } from "../world/sim-device.ts";
import { SimSpace, type SpaceKind } from "../world/sim-space.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8 * KIB;
const STRIPES = 6;
const DRIVE_BYTES = 3 * MIB;
const LIMIT_MS = 600_000;
const DAYS = 4;
const NAMES = ["a", "b", "c"];
/** Rows that were written before: the others are holes. */
const OLD_SECTORS = 64;

type State = "whole" | "degraded" | "rebuilding";

interface Plan {
  readonly policy: ConsistencyPolicy;
  readonly state: State;
  readonly kind: SpaceKind;
  /** Of those that have no room. */
  readonly drives: readonly string[];
  /** Writes that reach the drives before that. */
  readonly skip: number;
}

class Life {
  readonly plan: Plan;
  readonly world: SimWorld;
  readonly oracle: SectorOracle;
  readonly client: OracleClient;
  /** Writes of any kind that reached a drive. */
  submitted = -1;
  statuses = new Set<number>();

  constructor(plan: Plan) {
    this.plan = plan;
    this.world = new SimWorld({ seed: 1, latency: { minMs: 0.05, tailMs: 0 } });
    const { world } = this;
    for (const name of NAMES) this.watch(world.addDrive({ name, sizeBytes: DRIVE_BYTES }));
    const { sizeBytes } = world.createArray({
      drives: NAMES,
      chunkBytes: CHUNK_BYTES,
      memberSizeBytes: STRIPES * CHUNK_BYTES,
      consistencyPolicy: plan.policy,
    });
    this.oracle = new SectorOracle({ seed: 1, sectorCount: sizeBytes / SECTOR_BYTES });
    this.client = new OracleClient(this.oracle, world.client());
    world.settle();
    world.run(this.write(0, OLD_SECTORS));
    world.run(this.flush());
    world.settle();
    if (plan.state !== "whole") {
      world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
      world.must({ kind: "remove-member", array: ARRAY_NAME, drive: "a" });
      world.settle();
    }
    if (plan.state === "rebuilding") this.addNew();
    this.submitted = 0;
  }

  /** What is done while there may be no room; then there is. */
  live(): number {
    const { world } = this;
    const chunk = CHUNK_BYTES / SECTOR_BYTES;
    // Over what is there, into holes, a stripe and more, a part of a row, zeros.
    world.run(Promise.all([this.write(3, 2, true), this.write(chunk * 2, chunk * 2)]));
    world.run(Promise.all([this.write(chunk * 6, 8), this.write(chunk * 8 + 5, chunk * 3)]));
    world.run(this.zero(chunk * 4, chunk * 2));
    world.run(Promise.all([this.write(chunk * 8, 8), this.read(0, this.oracle.sectorCount)]));
    world.run(this.flush());
    world.simulation.runFor(600);
    world.run(this.write(chunk * 3 - 4, 8, true));
    world.run(this.read(0, this.oracle.sectorCount));
    this.mustBeUnharmed();
    const { submitted } = this;
    SimSpace.giveRoom(world.devices.values());
    this.submitted = Number.NEGATIVE_INFINITY;
    this.recover();
    return submitted;
  }

  private recover(): void {
    const { world } = this;
    if (this.plan.state === "degraded") this.addNew();
    const { state, degraded } = world.settle({ limitMs: 60_000 });
    this.mustBeUnharmed();
    if (state !== "clean" || degraded > 0) throw new Error(`${state}, degraded ${degraded}`);
    this.statuses.clear();
    world.run(this.read(0, this.oracle.sectorCount));
    const found = world.check();
    if (found > 0) throw new Error(`${found} bytes do not match`);
    world.run(this.write(0, this.oracle.sectorCount));
    if (this.statuses.has(ENOSPC)) throw new Error("refused although there is room");
    // Stopped, and started without one: nothing of it takes force.
    world.must({ kind: "stop-array", array: ARRAY_NAME });
    world.must({ kind: "detach-drive", name: "b", force: true });
    const started = world.startArray();
    if (!started.ok) throw new Error(`start: ${started.error.detail}`);
    world.run(this.read(0, this.oracle.sectorCount));
  }

  private mustBeUnharmed(): void {
    const { world } = this;
    const failed = world.events.find(
      ({ kind, message }) => /failed|aborted|lost/.test(kind) && !message.includes("by hand"),
    );
    const isWanted = this.plan.state !== "whole" && failed?.message.includes("drive a ") === true;
    if (failed !== undefined && !isWanted) throw new Error(failed.message);
    for (const image of world.images()) {
      const superblock = superblockOf(image);
      if (typeof superblock !== "string" && superblock.hasBadBlocks) {
        throw new Error(`${image.name} has bad blocks`);
      }
    }
  }

  private addNew(): void {
    const { world } = this;
    this.watch(world.addDrive({ name: "new", sizeBytes: DRIVE_BYTES }));
    world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: true });
  }

  private watch(device: SimDevice): void {
    const submit = device.submit.bind(device);
    device.submit = (request) => {
      if (this.world.context.table.op[request] !== Op.read) this.count();
      submit(request);
    };
  }

  private count(): void {
    if (this.submitted < 0) return;
    this.submitted += 1;
    if (this.submitted !== this.plan.skip) return;
    const random = new SeededRandom(this.plan.skip);
    const space = new SimSpace({ random, kind: this.plan.kind });
    const { devices } = this.world;
    space.fill([...devices.values()].filter(({ name }) => this.plan.drives.includes(name)));
  }

  private async write(lba: number, sectors: number, fua = false): Promise<void> {
    this.ended(await this.client.write({ lba, sectors }, { fua }));
  }

  private async zero(lba: number, sectors: number): Promise<void> {
    this.ended(await this.client.zero({ lba, sectors }, { noHole: true }));
  }

  private ended(status: number): void {
    this.statuses.add(status);
    if (status !== 0 && status !== ENOSPC) throw new Error(`a write is answered ${status}`);
  }

  private async read(lba: number, sectors: number): Promise<void> {
    const found = await this.client.read({ lba, sectors });
    if (typeof found !== "number") throw new Error(found.message);
    if (found !== 0) throw new Error(`a read is answered ${found}`);
  }

  private async flush(): Promise<void> {
    const status = await this.client.flush();
    if (status !== 0) throw new Error(`a flush is answered ${status}`);
  }
}

/** Lives with the space gone from the Nth write on, for today's N; the first that broke something. */
function sweep(plan: Omit<Plan, "skip">): { broken: string[]; refused: number } {
  const total = new Life({ ...plan, skip: Number.POSITIVE_INFINITY }).live();
  const broken: string[] = [];
  let refused = 0;
  const today = new Share(JSON.stringify(plan), DAYS);
  // Degraded every second one: a loop for each state and kind begins at another.
  const step = plan.state === "whole" ? 1 : 2;
  const first = plan.kind === "holes" ? 1 : step;
  for (let skip = first; skip <= total && broken.length < 3; skip += step) {
    if (!today.takes((skip - first) / step)) continue;
    try {
      const life = new Life({ ...plan, skip });
      life.live();
      refused += [...life.world.devices.values()].reduce((sum, { faults }) => {
        return sum + (faults.injected.get("no room") ?? 0);
      }, 0);
    } catch (error) {
      broken.push(`from write ${skip} on: ${(error as Error).message}`);
    }
  }
  return { broken, refused };
}

for (const policy of POLICIES) {
  for (const state of ["whole", "degraded", "rebuilding"] as const) {
    for (const kind of ["holes", "copy-on-write"] as const) {
      for (const drives of [["a", "b", "c", "new"], ["c"]]) {
        const who = drives.length > 1 ? "all" : "one";
        test(
          `rule 20: ${policy}, ${state}: no room (${kind}) under ${who} from the Nth write on: refused, and cured by room`,
          () => {
            withShare(() => {
              const { broken, refused } = sweep({ policy, state, kind, drives });
              expect(broken).toEqual([]);
              if (kind === "copy-on-write") expect(refused).toBeGreaterThan(0);
            });
          },
          LIMIT_MS,
        );
      }
    }
  }
}

// Rule 22 ------------------------------------------------------------------------------------

interface Pair {
  readonly policy: ConsistencyPolicy;
  readonly errno: number;
  /** The first member's sector is still bad when the second write comes. */
  readonly isLasting: boolean;
  /** Whether what is refused has landed all the same. */
  readonly kind: "dead" | "result";
}

const PAIRS: Pair[] = POLICIES.flatMap((policy) =>
  [EIO, ENOSPC].flatMap((errno) =>
    [false, true].flatMap((isLasting) =>
      (["dead", "result"] as const).map((kind) => ({ policy, errno, isLasting, kind })),
    ),
  ),
);

for (const pair of PAIRS) {
  const { policy, errno, isLasting, kind } = pair;
  const name = `${errnoName(errno)} (${kind})${isLasting ? ", also on the first" : ""}`;
  test(`rule 22: ${policy}: a chunk that only parity knows, and parity does not take its row (${name}): it stays`, () => {
    for (const other of ["parity", "data"] as const) {
      const world = new SimWorld({ seed: 3 });
      for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
      world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
      world.settle();
      const client = world.client();
      const row = (fill: number) => new Uint8Array(ROW_BYTES).fill(fill);
      // Stripe 0: chunk 0 on a, chunk 1 on b, parity on c.
      world.run(client.write(0, new Uint8Array(2 * ROW_BYTES).fill(1)));
      const data = areasOf(world.device("a").image()).find(({ name: area }) => area === "data")!;
      const fault =
        kind === "dead" ? ({ kind, errno } as const) : ({ kind, result: -errno } as const);
      const refuse = (drive: string) =>
        world.device(drive).faults.plan({
          fault,
          op: Op.write,
          offset: data.offset,
          bytes: ROW_BYTES,
          count: Number.POSITIVE_INFINITY,
        });
      refuse("a");
      const first = world.run(client.write(0, row(2), { fua: true }));
      world.run(client.flush());
      if (!isLasting) world.device("a").faults.quiet();
      refuse(other === "parity" ? "c" : "b");
      const second = world.run(client.write(ROW_BYTES, row(3), { fua: true }));
      // The first is written home before the second is written, and then all data is known.
      const isHome = errno === EIO && !isLasting && other === "parity";
      if (isHome) expect([first, second]).toEqual([0, 0]);
      const readBack = (): void => {
        const found = [0, 1].map((at) => world.run(client.read(at * ROW_BYTES, ROW_BYTES)));
        expect([other, found.map(({ status }) => status)]).toEqual([other, [0, 0]]);
        const bytes = found.map(({ data: each }) => [...new Set(each)]);
        const may = [first === 0 ? [2] : [1, 2], second === 0 ? [3] : [1, 3]];
        for (const [at, allowed] of may.entries()) {
          expect([other, at, bytes[at]!.filter((byte) => !allowed.includes(byte))]).toEqual([
            other,
            at,
            [],
          ]);
        }
      };
      readBack();
      for (const device of world.devices.values()) device.faults.quiet();
      world.simulation.runFor(5000);
      readBack();
      expect(world.status().degraded).toBe(0);
      if (errno === ENOSPC) expect([first, world.status().lostBytes]).toEqual([ENOSPC, 0]);
      expect(world.check()).toBe(0);
    }
  });
}

// Records --------------------------------------------------------------------------------------

for (const policy of POLICIES) {
  test(`rule 20: ${policy}: superblocks without room, again and again: nobody falls behind by two events`, () => {
    const world = new SimWorld({ seed: 3 });
    for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
    world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
    world.settle();
    const client = world.client();
    const fault = { kind: "dead", errno: ENOSPC } as const;
    const place = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES, op: Op.write } as const;
    world.device("b").faults.plan({ fault, ...place, count: Number.POSITIVE_INFINITY });
    for (let turn = 0; turn < 5; turn += 1) {
      expect(world.run(client.write(0, new Uint8Array(ROW_BYTES)))).toBe(ENOSPC);
      world.simulation.runFor(700);
      const events = world.images().map((image) => {
        const superblock = superblockOf(image);
        return typeof superblock === "string" ? -1 : superblock.events;
      });
      expect(Math.max(...events) - Math.min(...events)).toBeLessThanOrEqual(1);
    }
    expect(world.status()).toMatchObject({ degraded: 0 });
    world.device("b").faults.quiet();
    world.simulation.runFor(1000);
    expect(world.run(client.write(0, new Uint8Array(ROW_BYTES)))).toBe(0);
    expect(world.settle()).toMatchObject({ state: "clean", degraded: 0 });
  });
}

for (const policy of POLICIES) {
  test(`rule 20: ${policy}: a clean mark that one member has no room for: writes wait for a new dirty mark (seed 754981831)`, () => {
    for (const hasRoom of [false, true]) {
      const world = new SimWorld({ seed: 3 });
      for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
      world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
      world.settle();
      const client = world.client();
      expect(world.run(client.write(0, new Uint8Array(2 * ROW_BYTES).fill(1)))).toBe(0);
      const fault = { kind: "dead", errno: ENOSPC } as const;
      const place = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES, op: Op.write } as const;
      world.device("b").faults.plan({ fault, ...place, count: Number.POSITIVE_INFINITY });
      world.simulation.runFor(400);
      const marks = world.images().map((image) => {
        const superblock = superblockOf(image);
        return typeof superblock === "string" ? "" : superblock.resyncOffsetSectors;
      });
      expect(marks).toEqual([null, 0, null]);
      expect(world.status().state).toBe("active");
      if (hasRoom) world.device("b").faults.quiet();
      // The parity of stripe 0 is on its way when the power goes, and the data is there.
      const data = areasOf(world.device("c").image()).find(({ name }) => name === "data")!;
      const late = { op: Op.write, offset: data.offset, bytes: data.bytes } as const;
      world.device("c").faults.plan({ fault: { kind: "hang" }, ...late });
      let answer = -1;
      void client.write(0, new Uint8Array(ROW_BYTES).fill(2)).then((status) => {
        answer = status;
      });
      world.simulation.runFor(50);
      expect(answer).toBe(hasRoom ? -1 : ENOSPC);
      const images = world.crash((name) => (name === "c" ? "drop" : "keep"));
      const after = SimWorld.restart(images, { seed: 4 });
      expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
      expect(after.check()).toBe(0);
    }
  });
}

for (const policy of POLICIES) {
  for (const isCrash of [false, true]) {
    const how = isCrash ? "after a crash" : "after a stop";
    test(`rule 20: ${policy}: a start ${how} without any room: nobody is failed, and room cures it`, () => {
      const world = new SimWorld({ seed: 3 });
      for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
      world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
      world.settle();
      const old = new Uint8Array(6 * ROW_BYTES).fill(7);
      expect(world.run(world.client().write(0, old, { fua: true }))).toBe(0);
      if (!isCrash) world.must({ kind: "stop-array", array: ARRAY_NAME });
      const after = new SimWorld({ seed: 4 });
      for (const image of world.crash("keep")) after.plug(image);
      const devices = [...after.devices.values()];
      const random = new SeededRandom(1);
      new SimSpace({ random, kind: "copy-on-write", chance: 1 }).fill(devices);
      for (const { name } of devices) after.attach(name);
      const client = after.client();
      if (after.status().state !== "inactive") {
        expect(after.run(client.write(0, new Uint8Array(ROW_BYTES)))).toBe(ENOSPC);
        after.simulation.runFor(3000);
        const { status, data } = after.run(client.read(0, old.length));
        expect([status, [...new Set(data)]]).toEqual([0, [7]]);
      }
      SimSpace.giveRoom(devices);
      if (after.status().state === "inactive") expect(after.startArrays()).toEqual([]);
      after.simulation.runFor(3000);
      expect(after.events.filter(({ kind }) => kind === "member.failed")).toEqual([]);
      expect(after.run(client.write(ROW_BYTES, new Uint8Array(ROW_BYTES).fill(9)))).toBe(0);
      expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
      expect(after.check()).toBe(0);
    });
  }
}

for (const policy of POLICIES) {
  test(`rule 7: ${policy}: a single row that is refused in part: it is flushed before the clean mark (seed 760164522)`, () => {
    const world = new SimWorld({ seed: 3 });
    for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
    world.createArray({ drives: NAMES, chunkBytes: CHUNK_BYTES, consistencyPolicy: policy });
    world.settle();
    const client = world.client();
    const old = new Uint8Array(2 * CHUNK_BYTES).fill(1);
    const dataOf = (name: string): number =>
      areasOf(world.device(name).image()).find((area) => area.name === "data")!.offset;
    // The second row of b is bad: what is written to its stripe goes row by row.
    const bad = { kind: "dead", errno: EIO } as const;
    const place = { offset: dataOf("b") + ROW_BYTES, bytes: ROW_BYTES, op: Op.write } as const;
    world.device("b").faults.plan({ fault: bad, ...place, count: Number.POSITIVE_INFINITY });
    expect(world.run(client.write(0, old))).toBe(0);
    world.settle();
    const refused = { kind: "result", result: -ENOSPC } as const;
    const row = { offset: dataOf("a"), bytes: ROW_BYTES, op: Op.write } as const;
    world.device("a").faults.plan({ fault: refused, ...row, count: Number.POSITIVE_INFINITY });
    expect(world.run(client.write(0, new Uint8Array(ROW_BYTES).fill(2)))).toBe(ENOSPC);
    expect(world.settle().state).toBe("clean");
    const images = world.crash((name) => (name === "a" ? "drop" : "keep"));
    const after = SimWorld.restart(images, { seed: 4 });
    after.settle();
    expect(after.check()).toBe(0);
  });
}

// Parity that waits --------------------------------------------------------------------------

/** Both chunks of stripe 0 are written, and its parity has no room; `isLostThen`: nor a member. */
function parkOne(
  policy: ConsistencyPolicy,
  options: { isLostThen?: boolean } = {},
): { world: SimWorld; client: SimClient } {
  const { world, client, write } = fullUnderParity(policy, options);
  expect(world.run(write())).toBe(ENOSPC);
  return { world, client };
}

/** `write` is that of both chunks. */
function fullUnderParity(policy: ConsistencyPolicy, { isLostThen = false }) {
  const world = new SimWorld({ seed: 3 });
  for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
  world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
  world.settle();
  const client = world.client();
  world.run(client.write(0, new Uint8Array(2 * ROW_BYTES).fill(1)));
  // From now on an array has a bitmap of many bits.
  const images = world.images().map((image) => withFineBitmap(image));
  const next = SimWorld.restart(images, { seed: 5 });
  next.settle();
  const data = areasOf(next.device("c").image()).find(({ name }) => name === "data")!;
  const fault = { kind: "dead", errno: ENOSPC } as const;
  const place = { op: Op.write, offset: data.offset, bytes: ROW_BYTES };
  next.device("c").faults.plan({ fault, ...place, count: Number.POSITIVE_INFINITY });
  const lost = { kind: "dead", errno: ENXIO } as const;
  if (isLostThen) next.device("c").faults.plan({ ...place, op: Op.read, fault: lost });
  const nextClient = next.client();
  const both = new Uint8Array(2 * ROW_BYTES).fill(2, 0, ROW_BYTES).fill(3, ROW_BYTES);
  return { world: next, client: nextClient, write: () => nextClient.write(0, both) };
}

for (const policy of POLICIES) {
  test(`rule 20: ${policy}: a crash while parity waits for room: its row is made right`, () => {
    const { world, client } = parkOne(policy);
    // Long enough for clean marks, and for bits to be cleared, beside writes elsewhere.
    for (let turn = 0; turn < 60; turn += 1) {
      expect(world.run(client.write(2 * ROW_BYTES, new Uint8Array(ROW_BYTES).fill(turn)))).toBe(0);
      world.simulation.runFor(1000);
    }
    const after = SimWorld.restart(world.crash("keep"), { seed: 4 });
    expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
    expect(after.check()).toBe(0);
  });

  test(`rule 20: ${policy}: a member is lost while parity waits for room: its chunk is there`, () => {
    for (const drive of ["a", "b"]) {
      const { world, client } = parkOne(policy);
      world.must({ kind: "fail-member", array: ARRAY_NAME, drive });
      const { status, data } = world.run(client.read(0, 2 * ROW_BYTES));
      expect([status, data[0], data[ROW_BYTES]]).toEqual([0, 2, 3]);
      world.device("c").faults.quiet();
      world.simulation.runFor(5000);
      world.must({ kind: "stop-array", array: ARRAY_NAME });
      expect(world.startArray().ok).toBe(true);
      const again = world.run(world.client().read(0, 2 * ROW_BYTES));
      expect([again.status, again.data[0], again.data[ROW_BYTES]]).toEqual([0, 2, 3]);
    }
  });

  test(`rule 20: ${policy}: a member has no room, and is lost: nothing waits for it (seed 801932950)`, () => {
    const { world } = parkOne(policy, { isLostThen: true });
    world.simulation.runFor(5000);
    expect(world.status()).toMatchObject({ state: "degraded", degraded: 1 });
    world.must({ kind: "stop-array", array: ARRAY_NAME });
    expect(world.startArray()).toMatchObject({ ok: true });
    const { status, data } = world.run(world.client().read(0, 2 * ROW_BYTES));
    expect([status, data[0], data[ROW_BYTES]]).toEqual([0, 2, 3]);
  });

  test(`rule 20: ${policy}: stopped while parity waits for room, and a change of policy for that: it ends (seed 804602719)`, () => {
    const { world } = parkOne(policy);
    const consistencyPolicy = policy === "resync" ? "bitmap" : "resync";
    const changed = world.command<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, consistencyPolicy },
    });
    world.simulation.runFor(1000);
    const stopped = world.command<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    expect(world.run(stopped, 60_000).ok).toBe(true);
    const answer = world.run(changed, 1000);
    expect(answer.ok ? "changed" : answer.error).toMatchObject({
      code: "policy-not-now",
      detail: expect.stringContaining("waits for room under drive c: make room first"),
    });
  });

  test(`rule 20: ${policy}: parity has no room while the policy changes: refused, writes go on`, () => {
    const { world, client, write } = fullUnderParity(policy, {});
    const consistencyPolicy = policy === "resync" ? "bitmap" : "resync";
    // It is dirty: the write begins at once.
    expect(world.run(client.write(4 * ROW_BYTES, new Uint8Array(ROW_BYTES)))).toBe(0);
    const written = write();
    const changed = world.command<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, consistencyPolicy },
    });
    const answer = world.run(changed, 10_000);
    expect(answer.ok ? "changed" : answer.error.code).toBe("policy-not-changed");
    expect(world.run(written)).toBe(ENOSPC);
    expect(world.run(client.write(2 * ROW_BYTES, new Uint8Array(ROW_BYTES)), 1000)).toBe(0);
  });

  test(`rule 21: ${policy}: fenced while parity waits for room: what waits for that ends (seed 731234346)`, () => {
    const { world } = parkOne(policy);
    const consistencyPolicy = policy === "resync" ? "bitmap" : "resync";
    const changed = world.command<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, consistencyPolicy },
    });
    world.simulation.runFor(1000);
    world.device("a").reserve("nothing");
    world.run(world.client().read(0, ROW_BYTES));
    expect(world.status().state).toBe("fenced");
    const answer = world.run(changed, 5000);
    expect(answer.ok ? "" : answer.error.code).toBe("policy-not-now");
    expect(world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME }).ok).toBe(true);
  });
}

test("rule 20: ppl: a zeroing with one parity row that has no room: the other logs go on (seed 798)", () => {
  const world = new SimWorld({ seed: 3 });
  for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
  world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: "ppl" });
  world.settle();
  const client = world.client();
  // The old parity does not fit zeros.
  const stripes = new Uint8Array(6 * ROW_BYTES).fill(1).fill(3, ROW_BYTES);
  expect(world.run(client.write(0, stripes))).toBe(0);
  // The parity of stripe 0, in whichever request it is.
  const data = areasOf(world.device("c").image()).find(({ name }) => name === "data")!;
  const fault = { kind: "dead", errno: ENOSPC } as const;
  for (const op of [Op.write, Op.writeZeroes]) {
    const place = { op, offset: data.offset, bytes: ROW_BYTES };
    world.device("c").faults.plan({ fault, ...place, count: Number.POSITIVE_INFINITY });
  }
  expect(world.run(client.zero(0, 6 * ROW_BYTES))).toBe(ENOSPC);
  // Stripes 1 and 2 have their parity on the other two members.
  for (const row of [2, 3, 4, 5, 2, 4]) {
    const one = new Uint8Array(ROW_BYTES).fill(row);
    expect(world.run(client.write(row * ROW_BYTES, one), 10_000)).toBe(0);
  }
});

for (const policy of POLICIES) {
  test(`rule 20: ${policy}: stopped while a failure has no room on record: nothing comes later (seed 736193367)`, () => {
    const world = new SimWorld({ seed: 3 });
    for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
    world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
    world.settle();
    const fault = { kind: "dead", errno: ENOSPC } as const;
    const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES };
    for (const name of NAMES) {
      world.device(name).faults.plan({ fault, ...place, count: Number.POSITIVE_INFINITY });
    }
    world.device("a").vanish("keep");
    void world.client().read(0, 2 * ROW_BYTES);
    world.simulation.runFor(500);
    expect(world.status().degraded).toBe(1);
    world.must({ kind: "stop-array", array: ARRAY_NAME, force: true });
    for (const name of NAMES) world.device(name).faults.quiet();
    world.must({ kind: "detach-drive", name: "a", force: true });
    const before = world.changesSubmitted;
    world.simulation.runFor(5000);
    expect(world.changesSubmitted).toBe(before);
    const started = world.startArray({ force: true });
    expect(started.ok).toBe(true);
    world.simulation.runFor(5000);
    expect(world.settle()).toMatchObject({ state: "degraded", degraded: 1 });
    expect(world.events.some(({ kind }) => kind === "array.failed")).toBe(false);
  });
}

for (const policy of POLICIES) {
  test(`rule 22: ${policy}: a chunk that reads again is worth waiting for, not its row given up (seed 818838653)`, () => {
    const world = new SimWorld({ seed: 3 });
    for (const drive of NAMES) world.addDrive({ name: drive, sizeBytes: DRIVE_BYTES });
    world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, consistencyPolicy: policy });
    world.settle();
    const client = world.client();
    const content = new Uint8Array(2 * ROW_BYTES).fill(1).fill(3, ROW_BYTES);
    expect(world.run(client.write(0, content))).toBe(0);
    // Chunk 0 and 1 of stripe 0 lie on "a" and "b".
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
    world.settle();
    const areas = areasOf(world.device("a").image());
    const placeOf = (wanted: string) => areas.find(({ name }) => name === wanted)!.offset;
    const { faults } = world.device("a");
    const always = { bytes: ROW_BYTES, count: Number.POSITIVE_INFINITY };
    const isUnreadable = { kind: "result", result: -EIO } as const;
    faults.plan({ op: Op.read, fault: isUnreadable, offset: placeOf("data"), ...always });
    const hasNoRoom = { kind: "dead", errno: ENOSPC } as const;
    faults.plan({ op: Op.write, fault: hasNoRoom, offset: placeOf("bad-block log"), ...always });
    expect(world.run(client.write(0, new Uint8Array(ROW_BYTES).fill(9)), 10_000)).toBe(EIO);
    faults.quiet();
    const { status, data } = world.run(client.read(0, 2 * ROW_BYTES));
    expect([status, data[0], data[ROW_BYTES]]).toEqual([0, 1, 3]);
    expect(world.run(client.write(0, new Uint8Array(ROW_BYTES).fill(9)))).toBe(0);
    const after = world.run(client.read(0, 2 * ROW_BYTES));
    expect([after.status, after.data[0], after.data[ROW_BYTES]]).toEqual([0, 9, 3]);
  });
}

for (const to of ["bitmap", "ppl"] as const) {
  test(`policy ${to}: no room for its log: refused, and writes go on as before`, () => {
    const world = new SimWorld({ seed: 1 });
    for (const name of ["a", "b", "c"]) world.addDrive({ name, sizeBytes: 4 * MIB });
    world.createArray({ drives: ["a", "b", "c"], memberSizeBytes: MIB });
    world.settle();
    const fault = { kind: "result", result: -ENOSPC } as const;
    const from = SUPERBLOCK_OFFSET_BYTES + ROW_BYTES;
    const data = areasOf(world.device("a").image()).find(({ name }) => name === "data")!;
    for (const name of ["a", "b", "c"]) {
      const place = { offset: from, bytes: data.offset - from };
      const count = Number.POSITIVE_INFINITY;
      for (const op of [Op.write, Op.writeZeroes]) {
        world.device(name).faults.plan({ op, fault, count, ...place });
      }
    }
    const change = { kind: "set-array", array: ARRAY_NAME, consistencyPolicy: to } as const;
    expect(world.call(change).ok).toBe(false);
    expect(world.status().consistencyPolicy).toBe("resync");
    const client = world.client();
    expect(world.run(client.write(0, new Uint8Array(ROW_BYTES).fill(1)))).toBe(0);
    expect(world.settle().state).toBe("clean");
  });
}
