/**
 * Goal: rule 2: whatever subset of a unit's sectors was written before a crash, with each member
 * missing, replay changes no sector that nobody wrote, and each sector that was being written is
 * old or new (but for the very sectors being written on a member that is lost in that crash, or of
 * a row that is written whole on one that is missing).
 *
 * Method: a stripe of two-sector rows with a random value in each sector. Every plan of one row for
 * 3 to 6 members (each chunk unmodified, or modified in its first, its second or both sectors),
 * with every chunk missing or none, is cut into units, which are carried out one after the other,
 * with a crash after every subset of sector writes. Replay is that of src/md/ppl-replay.ts. The
 * model also gets units that break the rule, and must object. Plans of many rows, made at random
 * from parts of any bytes, are cut and compared with what was asked for, chunk by chunk and row by
 * row.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { BadBlockLog } from "../../../src/md/bad-block-log.ts";
import { type PplEntry, setPplEntry } from "../../../src/md/ppl.ts";
import { planReplay, type ReplayStep } from "../../../src/md/ppl-replay.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { OpKind, StripeOps } from "../../../src/raid5/stripe/ops.ts";
import { takePplUnit } from "../../../src/raid5/stripe/ppl-units.ts";
import { SegmentTable } from "../../../src/raid5/stripe/segments.ts";

const SECTORS = 2;
const WHOLE = 3;
const STRIPE = 1;
const NONE = -1;

/** A plan of one row: by data index, a bit for each modified sector of the model. */
type RowPlan = readonly number[];

/** What one unit writes, and the entry that it logs for that. */
interface ModelUnit {
  readonly written: readonly number[];
  readonly firstDataIndex: number;
  readonly dataCount: number;
}

function geometryOf(memberCount: number): Geometry {
  return new Geometry({
    memberCount,
    chunkBytes: ROW_BYTES,
    layout: 2,
    memberSizeBytes: memberCount * ROW_BYTES,
  });
}

/** Bytes of a stripe's data that one write has. */
interface Part {
  readonly within: number;
  readonly bytes: number;
}

interface UnitEntry {
  readonly firstRow: number;
  readonly rowCount: number;
  readonly firstDataIndex: number;
  readonly dataCount: number;
}

/** The units of a plan of merged writes, each a list of entries. */
function unitsOf(
  parts: readonly Part[],
  options: {
    dataCount: number;
    rowsPerChunk: number;
    missing?: number;
    partialParityRowsMax?: number;
    entriesMax?: number;
  },
): UnitEntry[][] {
  const { dataCount, rowsPerChunk, missing = 0 } = options;
  const { partialParityRowsMax = 32, entriesMax = 148 } = options;
  const ops = new StripeOps(parts.length);
  const chain = parts.map(({ within, bytes }) => {
    const op = ops.allocate(OpKind.write, STRIPE);
    ops.within[op] = within;
    ops.bytes[op] = bytes;
    return op;
  });
  for (const [index, op] of chain.entries()) ops.mergeNext[op] = chain[index + 1] ?? NONE;
  const segments = new SegmentTable(ops, rowsPerChunk);
  const leader = chain[0]!;
  const units: UnitEntry[][] = [];
  segments.build(leader);
  do {
    // Twice: a unit that could not be written is taken again.
    for (let round = 0; round < 2; round += 1) {
      takePplUnit(segments, leader, missing, { dataCount, partialParityRowsMax, entriesMax });
    }
    const entries: UnitEntry[] = [];
    const first = segments.first(leader);
    for (let slot = first; slot < first + segments.count[leader]!; slot += 1) {
      const touched = segments.touched[slot]!;
      if (touched === 0) continue;
      const indexes = [...Array(dataCount).keys()].filter((index) => touched & (1 << index));
      expect(indexes.at(-1)! - indexes[0]! + 1).toBe(indexes.length);
      expect(segments.partial[slot]! & ~touched).toBe(0);
      const [firstRow, rowCount] = [
        segments.fromRow[slot]!,
        segments.toRow[slot]! - segments.fromRow[slot]!,
      ];
      entries.push({ firstRow, rowCount, firstDataIndex: indexes[0]!, dataCount: indexes.length });
    }
    units.push(entries);
    expect(units.length).toBeLessThan(2000);
  } while (segments.endUnit(leader));
  return units;
}

function cutRow(plan: RowPlan, missing: number): ModelUnit[] {
  // Model sectors stand for the halves of a row.
  const half = ROW_BYTES / 2;
  const parts = plan.flatMap((halves, index): Part[] => {
    if (halves === 0) return [];
    const within = index * ROW_BYTES + (halves === 2 ? half : 0);
    return [{ within, bytes: halves === 3 ? ROW_BYTES : half }];
  });
  const missingMask = missing === NONE ? 0 : 1 << missing;
  const options = { dataCount: plan.length, rowsPerChunk: 1, missing: missingMask };
  return unitsOf(parts, options).map((entries) => {
    if (entries.length !== 1) throw new Error("a row is in a unit once");
    const { firstDataIndex, dataCount } = entries[0]!;
    const written = Array.from({ length: dataCount }, (_, index) => firstDataIndex + index);
    return { written, firstDataIndex, dataCount };
  });
}

/** A sector of one role. */
interface SectorWrite {
  readonly role: number;
  readonly sector: number;
  readonly value: number;
}

class StripeModel {
  readonly geometry: Geometry;
  readonly plan: RowPlan;
  /** The data index that is missing from the start, or NONE. */
  readonly missing: number;
  readonly parityRole: number;
  private readonly random = new SeededRandom(7);
  readonly before: number[][];
  readonly after: number[][];
  /** What the array holds, units carried out so far included. */
  private logical: number[][];
  violations = 0;
  crashes = 0;

  constructor(plan: RowPlan, missing: number) {
    this.plan = plan;
    this.missing = missing;
    this.geometry = geometryOf(plan.length + 1);
    this.parityRole = this.geometry.parityRole(STRIPE);
    const value = (): number => this.random.nextU32() | 0; // As XOR gives it.
    this.before = plan.map(() => Array.from({ length: SECTORS }, value));
    this.after = plan.map((mask, index) => {
      return this.before[index]!.map((old, sector) => (mask & (1 << sector) ? value() : old));
    });
    this.logical = this.before.map((row) => [...row]);
  }

  private roleOf(dataIndex: number): number {
    return this.geometry.dataRole(STRIPE, dataIndex);
  }

  run(units: readonly ModelUnit[]): void {
    const done = new Set<number>();
    for (const unit of units) {
      this.crashInUnit(unit, done);
      for (const index of unit.written) {
        this.logical[index] = [...this.after[index]!];
        done.add(index);
      }
    }
  }

  private membersOf(logical: readonly (readonly number[])[]): number[][] {
    const members: number[][] = Array.from({ length: this.plan.length + 1 }, () => []);
    for (let sector = 0; sector < SECTORS; sector += 1) {
      let parity = 0;
      logical.forEach((row, index) => {
        members[this.roleOf(index)]![sector] = row[sector]!;
        parity ^= row[sector]!;
      });
      members[this.parityRole]![sector] = parity;
    }
    return members;
  }

  private crashInUnit(unit: ModelUnit, done: ReadonlySet<number>): void {
    const start = this.membersOf(this.logical);
    const next = this.logical.map((row, index) => {
      return unit.written.includes(index) ? this.after[index]! : row;
    });
    const end = this.membersOf(next);
    const writes = this.writesBetween(start, end);
    const partialParity = Array.from({ length: SECTORS }, (_, sector) => {
      return next.reduce((sum, row, index) => {
        return unit.written.includes(index) ? sum : sum ^ row[sector]!;
      }, 0);
    });
    const lostRoles = [NONE, ...start.keys()];
    const losses = this.missing === NONE ? lostRoles : [this.roleOf(this.missing)];
    for (const lost of losses) {
      const steps = this.replayOf(unit, lost);
      for (let subset = 0; subset < 2 ** writes.length; subset += 1) {
        const members = start.map((row) => [...row]);
        writes.forEach(({ role, sector, value }, index) => {
          if (subset & (1 << index)) members[role]![sector] = value;
        });
        for (const step of steps) this.apply(step, members, partialParity);
        this.check(members, { lost, unit, done });
      }
    }
  }

  /** Rows are written whole: where nothing changes, a torn row is the same. */
  private writesBetween(start: readonly number[][], end: readonly number[][]): SectorWrite[] {
    const missingRole = this.missing === NONE ? NONE : this.roleOf(this.missing);
    return end.flatMap((row, role) => {
      if (role === missingRole) return [];
      return row.flatMap((value, sector) => {
        return value === start[role]![sector] ? [] : [{ role, sector, value }];
      });
    });
  }

  private replayOf(unit: ModelUnit, lost: number): readonly ReplayStep[] {
    if (lost === this.parityRole) return [];
    const entry: PplEntry = {
      dataSector: 0,
      partialParityBytes: 0,
      dataBytes: 0,
      parityRole: 0,
      checksum: 0,
    };
    const { firstDataIndex, dataCount } = unit;
    const extent = { stripe: STRIPE, firstRow: 0, rowCount: 1, firstDataIndex, dataCount };
    setPplEntry(entry, extent, this.geometry);
    const badBlocks = new BadBlockLog();
    const plan = planReplay({
      entries: [{ entry, partialParityOffset: 0, isIntact: true }],
      geometry: this.geometry,
      logRole: this.parityRole,
      members: Array.from({ length: this.plan.length + 1 }, (_, role) => {
        if (role === lost) return null;
        return { dataOffsetSectors: 0, recoveryOffsetSectors: null, badBlocks };
      }),
    });
    if (!plan.ok) throw new Error(plan.error.detail);
    return plan.value.steps;
  }

  private apply(step: ReplayStep, members: number[][], partialParity: readonly number[]): void {
    if (step.action === "keep") return;
    for (let sector = 0; sector < SECTORS; sector += 1) {
      let parity = step.partialParityOffset === null ? 0 : partialParity[sector]!;
      for (let index = 0; index < step.dataCount; index += 1) {
        parity ^= members[this.roleOf(step.firstDataIndex + index)]![sector]!;
      }
      members[this.parityRole]![sector] = parity;
    }
  }

  private check(
    members: readonly number[][],
    { lost, unit, done }: { lost: number; unit: ModelUnit; done: ReadonlySet<number> },
  ): void {
    this.crashes += 1;
    for (const [index, mask] of this.plan.entries()) {
      const role = this.roleOf(index);
      for (let sector = 0; sector < SECTORS; sector += 1) {
        const value =
          role === lost
            ? members.reduce((sum, row, other) => (other === role ? sum : sum ^ row[sector]!), 0)
            : members[role]![sector]!;
        const old = this.before[index]![sector]!;
        const isWritten = (mask & (1 << sector)) !== 0;
        const isNow = unit.written.includes(index) && isWritten;
        const isExempt = isNow && role === lost && (this.missing === NONE || mask === WHOLE);
        const mayBeOld = !isWritten || !done.has(index);
        const mayBeNew = isNow || done.has(index);
        const isRight =
          (mayBeOld && value === old) || (mayBeNew && value === this.after[index]![sector]!);
        if (!isRight && !isExempt) this.violations += 1;
      }
    }
  }
}

/** All plans of one row that modify something. */
function* rowPlans(dataCount: number): Generator<RowPlan> {
  for (let number = 1; number < 4 ** dataCount; number += 1) {
    yield Array.from({ length: dataCount }, (_, index) => Math.floor(number / 4 ** index) % 4);
  }
}

test.each([3, 4, 5, 6])(
  "ppl units: rule 2: %i members, every plan of a row, every crash: nothing but old or new",
  (memberCount) => {
    let crashes = 0;
    for (const plan of rowPlans(memberCount - 1)) {
      for (let missing = NONE; missing < plan.length; missing += 1) {
        const model = new StripeModel(plan, missing);
        model.run(cutRow(plan, missing));
        crashes += model.crashes;
        if (model.violations > 0) throw new Error(`plan ${plan.join()} missing ${missing}`);
      }
    }
    expect(crashes).toBeGreaterThan(500);
  },
);

test.each<[string, RowPlan, number, readonly ModelUnit[]]>([
  [
    "two chunks written in different sectors",
    [1, 2, 0],
    NONE,
    [{ written: [0, 1], firstDataIndex: 0, dataCount: 2 }],
  ],
  [
    "chunks that are not consecutive",
    [3, 0, 3],
    NONE,
    [{ written: [0, 2], firstDataIndex: 0, dataCount: 2 }],
  ],
  [
    "a part of the missing chunk together with another",
    [1, 3, 0],
    0,
    [{ written: [0, 1], firstDataIndex: 0, dataCount: 2 }],
  ],
  [
    "a chunk that is not in the entry",
    [3, 3, 0],
    NONE,
    [{ written: [0, 1], firstDataIndex: 0, dataCount: 1 }],
  ],
])(
  "ppl units: rule 2: one unit for %s: the model finds what it breaks",
  (_, plan, missing, units) => {
    const model = new StripeModel(plan, missing);
    model.run(units);
    expect(model.violations).toBeGreaterThan(0);
  },
);

// Plans of many rows -------------------------------------------------------------------------

/** Parts of any bytes, no two in one row of a chunk. */
function randomParts(
  random: SeededRandom,
  { dataCount, rowsPerChunk }: { dataCount: number; rowsPerChunk: number },
): Part[] {
  const stripeBytes = dataCount * rowsPerChunk * ROW_BYTES;
  const parts: Part[] = [];
  let at = nextBelow(random, 3 * ROW_BYTES);
  while (at < stripeBytes && parts.length < 12) {
    const longest = nextBelow(random, 3) === 0 ? 3 * rowsPerChunk * ROW_BYTES : 2 * ROW_BYTES;
    const isWhole = nextBelow(random, 2) === 0;
    const within = isWhole ? Math.floor(at / ROW_BYTES) * ROW_BYTES : at;
    let bytes = Math.min(stripeBytes - within, 1 + nextBelow(random, longest));
    if (isWhole) bytes = Math.ceil(bytes / ROW_BYTES) * ROW_BYTES;
    parts.push({ within, bytes });
    const endRow = Math.ceil((within + bytes) / ROW_BYTES);
    at = endRow * ROW_BYTES + nextBelow(random, rowsPerChunk * ROW_BYTES);
  }
  return parts.length > 0 ? parts : [{ within: 0, bytes: 512 }];
}

/** By "row chunk": bits of the sectors that are modified. */
function sectorsAsked(parts: readonly Part[], rowsPerChunk: number): Map<string, number> {
  const asked = new Map<string, number>();
  for (const { within, bytes } of parts) {
    const last = Math.floor((within + bytes - 1) / SECTOR_BYTES);
    for (let sector = Math.floor(within / SECTOR_BYTES); sector <= last; sector += 1) {
      const row = Math.floor(sector / 8);
      const key = `${row % rowsPerChunk} ${Math.floor(row / rowsPerChunk)}`;
      asked.set(key, (asked.get(key) ?? 0) | (1 << (sector % 8)));
    }
  }
  return asked;
}

test("ppl units: random plans of many rows: each modified row once, within the limits", () => {
  const random = new SeededRandom(2);
  for (let round = 0; round < 3000; round += 1) {
    const dataCount = 2 + nextBelow(random, 6);
    const rowsPerChunk = [1, 4, 16, 128][nextBelow(random, 4)]!;
    const partialParityRowsMax = rowsPerChunk === 128 ? 32 : [1, 5, 32][nextBelow(random, 3)]!;
    const entriesMax = [1, 3, 148][nextBelow(random, 3)]!;
    const missing = nextBelow(random, 3) === 0 ? 1 << nextBelow(random, dataCount) : 0;
    const parts = randomParts(random, { dataCount, rowsPerChunk });
    const limits = { partialParityRowsMax, entriesMax };
    const asked = sectorsAsked(parts, rowsPerChunk);
    const seen = new Map<string, number>();
    for (const unit of unitsOf(parts, { dataCount, rowsPerChunk, missing, ...limits })) {
      expect(unit.length).toBeGreaterThan(0);
      expect(unit.length).toBeLessThanOrEqual(entriesMax);
      const rowsOfUnit = new Set<number>();
      let partialParityRows = 0;
      for (const entry of unit) {
        if (entry.dataCount < dataCount) partialParityRows += entry.rowCount;
        for (let row = entry.firstRow; row < entry.firstRow + entry.rowCount; row += 1) {
          expect(rowsOfUnit.has(row)).toBe(false);
          rowsOfUnit.add(row);
          const sectors = new Set<number>();
          for (let index = 0; index < entry.dataCount; index += 1) {
            const chunk = entry.firstDataIndex + index;
            const key = `${row} ${chunk}`;
            sectors.add(asked.get(key) ?? 0);
            seen.set(key, (seen.get(key) ?? 0) + 1);
            // The missing one goes with others only where its row is written whole.
            const isBeside = entry.dataCount > 1 && (missing & (1 << chunk)) !== 0;
            if (isBeside) expect(asked.get(key)).toBe(0xff);
          }
          expect(sectors.size).toBe(1);
        }
      }
      expect(partialParityRows).toBeLessThanOrEqual(partialParityRowsMax);
    }
    expect([...seen.keys()].sort()).toEqual([...asked.keys()].sort());
    expect([...seen.values()].every((count) => count === 1)).toBe(true);
  }
});

test("ppl units: a whole stripe: one entry without partial parity, whatever its size", () => {
  const chunkBytes = 512 * KIB;
  const options = { dataCount: 3, rowsPerChunk: chunkBytes / ROW_BYTES };
  expect(unitsOf([{ within: 0, bytes: 3 * chunkBytes }], options)).toEqual([
    [{ firstRow: 0, rowCount: 128, firstDataIndex: 0, dataCount: 3 }],
  ]);
});

test("ppl units: a whole stripe with a chunk missing: one entry too", () => {
  for (const missing of [1, 2, 4]) {
    const options = { dataCount: 3, rowsPerChunk: 16, missing };
    expect(unitsOf([{ within: 0, bytes: 3 * 16 * ROW_BYTES }], options)).toEqual([
      [{ firstRow: 0, rowCount: 16, firstDataIndex: 0, dataCount: 3 }],
    ]);
  }
});

test("ppl units: a long write of one chunk: as many units as its partial parity takes", () => {
  const rowsPerChunk = 128;
  const part = { within: (rowsPerChunk + 10) * ROW_BYTES, bytes: 80 * ROW_BYTES };
  const units = unitsOf([part], { dataCount: 3, rowsPerChunk });
  expect(units.map((unit) => unit.map(({ firstRow, rowCount }) => [firstRow, rowCount]))).toEqual([
    [[10, 32]],
    [[42, 32]],
    [[74, 16]],
  ]);
});
