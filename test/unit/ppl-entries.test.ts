/**
 * Goal: rule 2: whatever subset of a unit's sectors was written before a crash, with each member
 * missing, replay changes no sector that nobody wrote, and each sector that was being written is
 * old or new (but for the very sectors being written on a member that is lost in that crash).
 *
 * Method: a stripe of two-sector rows with a random value in each sector. Every plan of one row for
 * 3 to 6 members (each chunk unmodified, or modified in its first, its second or both sectors),
 * with every chunk missing or none, is cut into units, which are carried out one after the other,
 * with a crash after every subset of sector writes. Replay is that of src/md/ppl-replay.ts. The
 * model also gets units that break the rule, and must object. Plans of many rows, made at random,
 * are cut and compared with what was asked for, chunk by chunk and row by row.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, ROW_BYTES } from "../../src/base/units.ts";
import { BadBlockLog } from "../../src/md/bad-block-log.ts";
import { type PplEntry, setPplEntry } from "../../src/md/ppl.ts";
import { planReplay, type ReplayStep } from "../../src/md/ppl-replay.ts";
import { Geometry } from "../../src/raid5/geometry.ts";
import { PplEntryCutter } from "../../src/raid5/ppl-entries.ts";

const SECTORS = 2;
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

/** Model sectors stand for the halves of a row. */
const HALVES = [0x00, 0x0f, 0xf0, 0xff];

function cutRow(plan: RowPlan, missing: number): ModelUnit[] {
  const cutter = new PplEntryCutter({
    dataCount: plan.length,
    rowsPerChunk: 1,
    rangesMax: 1,
    partialParityRowsMax: 32,
    entriesMax: 148,
  });
  cutter.begin();
  const modified = plan.reduce((mask, sectors, index) => mask | (sectors ? 1 << index : 0), 0);
  const partial = plan.reduce((mask, sectors, index) => {
    return mask | (sectors === 1 || sectors === 2 ? 1 << index : 0);
  }, 0);
  const sectors = Uint8Array.from(plan, (half) => HALVES[half]!);
  const missingMask = missing === NONE ? 0 : 1 << missing;
  cutter.add({ fromRow: 0, toRow: 1, modified, partial, sectors, missing: missingMask });
  cutter.cut();
  return cutter.units().map((entries) => {
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
        const isExempt = isNow && role === lost && this.missing === NONE;
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
  "ppl entries: rule 2: %i members, every plan of a row, every crash: nothing but old or new",
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
    "the missing chunk together with another",
    [3, 3, 0],
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
  "ppl entries: rule 2: one unit for %s: the model finds what it breaks",
  (_, plan, missing, units) => {
    const model = new StripeModel(plan, missing);
    model.run(units);
    expect(model.violations).toBeGreaterThan(0);
  },
);

// Plans of many rows -------------------------------------------------------------------------

interface AskedRange {
  readonly fromRow: number;
  readonly toRow: number;
  readonly modified: number;
  readonly partial: number;
  readonly sectors: Uint8Array;
  readonly missing: number;
}

function randomRanges(
  random: SeededRandom,
  { dataCount, rowsPerChunk }: { dataCount: number; rowsPerChunk: number },
): AskedRange[] {
  const ranges: AskedRange[] = [];
  let row = nextBelow(random, 3);
  const missing = nextBelow(random, 3) === 0 ? 1 << nextBelow(random, dataCount) : 0;
  while (row < rowsPerChunk) {
    const isPartial = nextBelow(random, 3) === 0;
    const rows = isPartial ? 1 : 1 + nextBelow(random, Math.min(40, rowsPerChunk - row));
    const modified = 1 + nextBelow(random, 2 ** dataCount - 1);
    const partial = isPartial ? modified & nextBelow(random, 2 ** dataCount) : 0;
    const sectors = Uint8Array.from(
      { length: dataCount },
      () => [0x01, 0x0f, 0x80][nextBelow(random, 3)]!,
    );
    ranges.push({ fromRow: row, toRow: row + rows, modified, partial, sectors, missing });
    row += rows + nextBelow(random, 2) * nextBelow(random, 4);
  }
  return ranges;
}

function sectorsOf(range: AskedRange, index: number): number {
  return range.partial & (1 << index) ? range.sectors[index]! : 0xff;
}

/** Whether the chunks of an entry may be in one entry in this row. */
function expectOneEntry(range: AskedRange, first: number, count: number): void {
  const indexes = Array.from({ length: count }, (_, index) => first + index);
  expect(indexes.every((index) => range.modified & (1 << index))).toBe(true);
  expect(new Set(indexes.map((index) => sectorsOf(range, index))).size).toBe(1);
  if (count > 1) expect(indexes.some((index) => range.missing & (1 << index))).toBe(false);
}

test("ppl entries: random plans of many rows: each modified row once, within the limits", () => {
  const random = new SeededRandom(2);
  for (let round = 0; round < 1500; round += 1) {
    const dataCount = 2 + nextBelow(random, 6);
    const rowsPerChunk = [1, 4, 16, 128][nextBelow(random, 4)]!;
    const partialParityRowsMax = [1, 5, 32][nextBelow(random, 3)]!;
    const entriesMax = [1, 3, 148][nextBelow(random, 3)]!;
    const ranges = randomRanges(random, { dataCount, rowsPerChunk });
    const cutter = new PplEntryCutter({
      dataCount,
      rowsPerChunk,
      rangesMax: ranges.length + 1,
      partialParityRowsMax,
      entriesMax,
    });
    // Twice, since a cutter is used again and again.
    for (let use = 0; use < 2; use += 1) {
      cutter.begin();
      for (const range of ranges) cutter.add(range);
      cutter.cut();
    }
    const seen = new Map<string, number>();
    for (const unit of cutter.units()) {
      expect(unit.length).toBeGreaterThan(0);
      expect(unit.length).toBeLessThanOrEqual(entriesMax);
      const rowsOfUnit = new Set<number>();
      let partialParityRows = 0;
      for (const entry of unit) {
        expect(entry.isFullStripe).toBe(entry.dataCount === dataCount);
        if (!entry.isFullStripe) partialParityRows += entry.rowCount;
        for (let row = entry.firstRow; row < entry.firstRow + entry.rowCount; row += 1) {
          expect(rowsOfUnit.has(row)).toBe(false);
          rowsOfUnit.add(row);
          const range = ranges.find(({ fromRow, toRow }) => row >= fromRow && row < toRow)!;
          expectOneEntry(range, entry.firstDataIndex, entry.dataCount);
          for (let index = 0; index < entry.dataCount; index += 1) {
            const key = `${row} ${entry.firstDataIndex + index}`;
            seen.set(key, (seen.get(key) ?? 0) + 1);
          }
        }
      }
      expect(partialParityRows).toBeLessThanOrEqual(partialParityRowsMax);
    }
    const asked = ranges.flatMap(({ fromRow, toRow, modified }) => {
      return Array.from({ length: toRow - fromRow }, (_, row) => {
        return Array.from({ length: dataCount }, (__, index) => index)
          .filter((index) => modified & (1 << index))
          .map((index) => `${fromRow + row} ${index}`);
      }).flat();
    });
    expect([...seen.keys()].sort()).toEqual(asked.sort());
    expect([...seen.values()].every((count) => count === 1)).toBe(true);
  }
});

test("ppl entries: a whole stripe: one entry without partial parity, whatever its size", () => {
  const cutter = new PplEntryCutter({
    dataCount: 3,
    rowsPerChunk: (512 * KIB) / ROW_BYTES,
    rangesMax: 66,
    partialParityRowsMax: 32,
    entriesMax: 148,
  });
  cutter.begin();
  const sectors = new Uint8Array(3);
  cutter.add({ fromRow: 0, toRow: 60, modified: 7, partial: 0, sectors, missing: 0 });
  cutter.add({ fromRow: 60, toRow: 128, modified: 7, partial: 0, sectors, missing: 0 });
  cutter.cut();
  expect(cutter.units()).toEqual([
    [{ firstRow: 0, rowCount: 128, firstDataIndex: 0, dataCount: 3, isFullStripe: true }],
  ]);
});

test("ppl entries: a long write of one chunk: as many units as its partial parity takes", () => {
  const cutter = new PplEntryCutter({
    dataCount: 3,
    rowsPerChunk: 128,
    rangesMax: 66,
    partialParityRowsMax: 32,
    entriesMax: 148,
  });
  cutter.begin();
  const sectors = new Uint8Array(3);
  cutter.add({ fromRow: 10, toRow: 90, modified: 2, partial: 0, sectors, missing: 0 });
  cutter.cut();
  expect(
    cutter.units().map((unit) => unit.map(({ firstRow, rowCount }) => [firstRow, rowCount])),
  ).toEqual([[[10, 32]], [[42, 32]], [[74, 16]]]);
});
