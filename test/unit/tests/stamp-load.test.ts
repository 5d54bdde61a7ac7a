/**
 * Goal: the loads of the tests that end a process or a machine find out what was lost, and call
 * nothing wrong that may be.
 *
 * Method: the load writes to a store in memory whose end is made up: of what was acknowledged, and
 * of what was under way, each may be there or not. What the oracle should say of each is listed.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ECONNRESET } from "../../../src/base/errno.ts";
import { err, ok } from "../../../src/base/result.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { LAYOUT_LEFT_SYMMETRIC } from "../../../src/md/layout.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { CutOracle, openMarkLedger } from "../../helpers/mark-ledger.ts";
import { StampLoad } from "../../helpers/stamp-load.ts";
import type { NbdLink } from "../../sim/world/sim-clients.ts";

const SIZE_BYTES = 2 * MIB;
const WINDOWS = [
  { offset: 0, bytes: 512 * KIB },
  { offset: MIB, bytes: 512 * KIB },
];

interface Write {
  readonly offset: number;
  readonly data: Uint8Array;
}

/** Answers until its connection is lost; keeps what it had before each write. */
class Store implements NbdLink {
  bytes = new Uint8Array(SIZE_BYTES);
  /** As of the last flush. */
  flushed = new Uint8Array(SIZE_BYTES);
  readonly underWay: Write[] = [];
  /** The last write that was answered, and what was there before it. */
  last: Write = { offset: 0, data: new Uint8Array(0) };
  before = new Uint8Array(0);
  left = Number.POSITIVE_INFINITY;

  async write(offset: number, data: Uint8Array) {
    await Promise.resolve();
    this.left -= 1;
    if (this.left < 0) {
      this.underWay.push({ offset, data });
      return err(ECONNRESET);
    }
    this.last = { offset, data };
    this.before = this.bytes.slice(offset, offset + data.length);
    this.bytes.set(data, offset);
    return ok();
  }

  async read(offset: number, bytes: number) {
    await Promise.resolve();
    return ok(this.bytes.slice(offset, offset + bytes));
  }

  async flush() {
    this.flushed = this.bytes.slice();
    await Promise.resolve();
    return ok();
  }

  async writeZeroes() {
    return ok();
  }

  async trim() {
    return ok();
  }

  apply({ offset, data }: Write): void {
    this.bytes.set(data, offset);
  }
}

/** A load that was cut off after so many writes, with three under way. */
async function killed(count = 150): Promise<{ store: Store; load: StampLoad }> {
  const store = new Store();
  const load = new StampLoad({ seed: 5, windows: WINDOWS });
  store.left = count;
  await load.run([store], { depth: 3 });
  expect(load.acknowledgedWrites).toBe(count);
  expect(store.underWay.length).toBe(3);
  return { store, load };
}

test("stamp load: killed, what was under way there, not there or half there: nothing is wrong", async () => {
  for (const share of [0, 1, 0.5]) {
    const { store, load } = await killed();
    for (const { offset, data } of store.underWay) {
      const bytes = Math.floor((data.length * share) / 512) * 512;
      store.apply({ offset, data: data.subarray(0, bytes) });
    }
    expect(await load.verify(store)).toEqual([]);
    expect(await load.verify(store)).toEqual([]);
    store.left = 100;
    await load.run([store], { depth: 3 });
    expect(await load.verify(store)).toEqual([]);
  }
});

test("stamp load: an acknowledged write is not there: each of its sectors is named", async () => {
  // Some of the last ones were FUA, or flushed: all the others count as much here.
  for (let count = 150; count < 160; count += 1) {
    const { store, load } = await killed(count);
    const { offset, data } = store.last;
    store.apply({ offset, data: store.before });
    const wrong = await load.verify(store);
    expect(wrong.length).toBe(data.length / 512);
    expect(wrong[0]).toContain(`sector ${offset / 512} holds `);
  }
});

test("stamp load: found once, then otherwise: wrong", async () => {
  const { store, load } = await killed();
  expect(await load.verify(store)).toEqual([]);
  store.apply(store.underWay[0]!);
  expect((await load.verify(store)).length).toBe(store.underWay[0]!.data.length / 512);
});

test("stamp load: noise where nobody wrote, or on a sector: wrong; where forgiven: right", async () => {
  const geometry = new Geometry({
    memberCount: 3,
    chunkBytes: 16 * KIB,
    layout: LAYOUT_LEFT_SYMMETRIC,
    memberSizeBytes: MIB,
  });
  const noise = new Uint8Array(512).fill(3);
  const offset = async (way: "none" | "role" | "written") => {
    const { store, load } = await killed();
    const at = store.underWay[0]!.offset;
    const stripe = geometry.stripeOf(at);
    const dataIndex = Math.floor((at - stripe * geometry.stripeBytes) / geometry.chunkBytes);
    const role = geometry.dataRole(stripe, dataIndex);
    if (way === "role") load.forgiveRole(role, geometry);
    if (way === "written") load.forgiveWrittenOn(role, geometry);
    store.apply({ offset: at, data: noise });
    const wrong = await load.verify(store);
    expect(wrong.length).toBe(way === "none" ? 1 : 0);
    store.apply({ offset: at, data: new Uint8Array(512).fill(4) });
    return (await load.verify(store)).length;
  };
  for (const way of ["role", "written"] as const) expect(await offset(way)).toBe(0);
  expect(await offset("none")).toBe(1);
});

/** Writes with flushes between them, and a ledger; then some that no flush covers. */
async function cut(): Promise<{ store: Store; oracle: CutOracle }> {
  const folder = mkdtempSync(join(tmpdir(), "parityd-ledger-"));
  const path = join(folder, "ledger");
  const store = new Store();
  const onMark = openMarkLedger(path);
  const windows = [{ offset: 0, bytes: SIZE_BYTES }];
  const load = new StampLoad({ seed: 6, windows, survives: "flushed", onMark });
  await load.burst(store, 60);
  expect(await load.flush(store)).toBe(true);
  await load.burst(store, 20);
  store.left = 1;
  await load.run([store], { depth: 2 });
  // The machine died while a line was being written.
  const ledger = `${readFileSync(path, "utf8")}{"kind":"en`;
  rmSync(folder, { recursive: true });
  return { store, oracle: new CutOracle({ seed: 6, sizeBytes: SIZE_BYTES, ledger }) };
}

test("mark ledger: a cut with everything kept, or all dropped that was not flushed: right", async () => {
  const { store, oracle } = await cut();
  expect(oracle.flushedCount).toBe(60);
  for (const write of store.underWay) store.apply(write);
  const kept = await oracle.judge(store);
  expect(kept.wrong).toEqual([]);
  expect(kept.newer).toBeGreaterThan(0);
  store.bytes = store.flushed.slice();
  expect(await oracle.judge(store)).toEqual({ wrong: [], newer: 0 });
});

test("mark ledger: a flushed sector is older, zero or noise: wrong", async () => {
  const { store, oracle } = await cut();
  store.bytes = store.flushed.slice();
  const stamped = store.bytes.findIndex((byte) => byte !== 0);
  const at = stamped - (stamped % 512);
  for (const sector of [new Uint8Array(512), new Uint8Array(512).fill(7)]) {
    store.bytes.set(sector, at);
    expect((await oracle.judge(store)).wrong.length).toBe(1);
  }
});
