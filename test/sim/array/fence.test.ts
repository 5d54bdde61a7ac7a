/**
 * Goal: rule 21 at every request of an array's life. Another host takes one drive at that request,
 * the others not yet: from the answer on nothing comes to any drive, nothing is acknowledged and no
 * member is told on; and what the drives hold assembles elsewhere with all that were in sync.
 * Method: a short life is lived once for each of its requests, with several answers in one reap, so
 * that writes are under way and queued when the first EBADE is judged. A day takes one request in
 * three; three days in a row take all.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { EIO } from "../../../src/base/errno.ts";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { expectationOf } from "../workload/workload.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8192;
const STRIPES = 4;
const DRIVE_BYTES = 3 * MIB;
const NEVER = Number.POSITIVE_INFINITY;

/** The life of an array up to the moment at which it is fenced. */
class FencedLife {
  readonly world: SimWorld;
  isFenced = false;
  requests = 0;
  /** Members that were in sync when it was fenced. */
  inSync: string[] = [];
  private changesAtFence = 0;
  private readonly policy: ConsistencyPolicy;
  private readonly drives = ["a", "b", "c"];
  private oracle = new SectorOracle({ seed: 1, sectorCount: 1 });

  /** `fenceAt`: the request, of those of all drives, that finds its drive reserved. */
  constructor(policy: ConsistencyPolicy, fenceAt: number) {
    this.policy = policy;
    this.world = new SimWorld({
      seed: fenceAt === NEVER ? 1 : fenceAt,
      // In each second life all answers of a moment come in one reap.
      ...(fenceAt % 2 === 0
        ? { batchChance: 1, latency: { minMs: 0.2, tailMs: 0 } }
        : { batchChance: 0.7 }),
      onEvent: ({ kind, drive }) => {
        // Failed by request: that may have been recorded here and there already.
        if (kind === "member.failed") this.inSync = this.inSync.filter((name) => name !== drive);
        if (kind !== "array.fenced") return;
        this.isFenced = true;
        this.changesAtFence = this.world.changesSubmitted;
      },
    });
    for (const name of [...this.drives, "new"]) {
      const device = this.world.addDrive({ name, sizeBytes: DRIVE_BYTES });
      const submit = device.submit.bind(device);
      device.submit = (request) => {
        this.requests += 1;
        // Reads go on under a reservation for writing: the first one is refused all the same.
        if (this.requests === fenceAt) {
          device.reserve(this.world.context.table.op[request] === Op.read ? "nothing" : "reads");
        }
        submit(request);
      };
    }
  }

  /** Lives until it is fenced, or to the end. */
  live(): this {
    if (!this.create()) return this;
    const steps = [
      () => this.writeSome(0),
      () => this.settle(),
      () => this.writeSome(1),
      () => this.scrub(),
      () => this.replace(),
      () => this.writeSome(2),
      () => this.settle(),
      () => this.stopAndStart(),
      () => this.writeSome(3),
      () => this.settle(),
    ];
    for (const step of steps) {
      this.note();
      if (this.isFenced) break;
      step();
    }
    return this;
  }

  private note(): void {
    if (this.isFenced) return;
    const { members, sync } = this.world.status();
    if (sync.action === "rebuild") return;
    this.inSync = members.flatMap(({ drive, state }) =>
      state === "in-sync" && drive !== null ? [drive] : [],
    );
  }

  private create(): boolean {
    const created = this.world.call<"create-array">({
      kind: "create-array",
      name: ARRAY_NAME,
      drives: this.drives,
      spares: [],
      chunkBytes: CHUNK_BYTES,
      memberSizeBytes: STRIPES * CHUNK_BYTES,
      consistencyPolicy: this.policy,
      assumeClean: false,
      force: true,
    });
    if (!created.ok) {
      expect(created.error.code).toBe("fenced");
      return false;
    }
    this.oracle = new SectorOracle({
      seed: 1,
      sectorCount: created.value.sizeBytes / SECTOR_BYTES,
    });
    return true;
  }

  private get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  private writeSome(round: number): void {
    const { world } = this;
    const chunk = CHUNK_BYTES / SECTOR_BYTES;
    const writes = [
      this.write(round, 3, true),
      this.write(chunk * 2 - 5, 11, false),
      this.write(chunk * 4, chunk * 2, false),
    ];
    world.run(Promise.all(writes));
    expect(world.run(this.client.flush())).toBe(this.isFenced ? EIO : 0);
  }

  private async write(lba: number, sectors: number, fua: boolean): Promise<void> {
    const status = await this.client.write({ lba, sectors }, { fua });
    // Nothing is acknowledged from the first EBADE on.
    expect(status).toBe(this.isFenced ? EIO : 0);
  }

  private settle(): void {
    this.world.simulation.runFor(1000);
    if (!this.isFenced) this.world.settle();
  }

  private scrub(): void {
    const scrub = {
      kind: "start-scrub",
      array: ARRAY_NAME,
      mode: "repair",
      restart: true,
    } as const;
    const started = this.world.call<"start-scrub">({ ...scrub, limitBytesPerSecond: null });
    if (!started.ok) return;
    const { state, error } = this.world.waitJob(started.value.id);
    expect(state).toBe(this.isFenced ? "failed" : "done");
    if (this.isFenced) expect(error).toContain("another host holds the reservation");
  }

  private replace(): void {
    const { world } = this;
    world.call<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
    this.note();
    if (this.isFenced) return;
    const added = world.call<"add-member">({
      kind: "add-member",
      array: ARRAY_NAME,
      drive: "new",
      force: false,
    });
    if (!this.isFenced && !added.ok) expect(added.error.code).toBe("fenced");
  }

  private stopAndStart(): void {
    const { world } = this;
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const started = world.startArray();
    if (!started.ok) expect(started.error).toMatchObject({ kind: "conflict", code: "fenced" });
    if (!started.ok) this.isFenced = true;
  }

  /** What is wrong after the fence, or null. */
  judge(): string | null {
    const { world } = this;
    const isRunning = world.events.some(({ kind }) => kind === "array.fenced");
    if (!this.isFenced) return null;
    world.simulation.runFor(5000);
    const fencedAt = world.events.findIndex(({ kind }) => kind === "array.fenced");
    const blame = world.events
      .slice(fencedAt < 0 ? world.events.length : fencedAt)
      .find(({ kind }) => kind === "member.failed" || kind === "spare.failed");
    if (blame !== undefined) return blame.message;
    const [array] = world.must<"list-arrays">({ kind: "list-arrays" });
    if (array?.state === "fenced") {
      const answer = world.run(world.client().read(0, ROW_BYTES));
      if (answer.status !== EIO) return `a read is answered ${answer.status}`;
      world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    }
    const since = world.changesSubmitted - this.changesAtFence;
    if (isRunning && since !== 0) return `${since} requests came to the drives`;
    return array === undefined ? null : this.judgeElsewhere();
  }

  /** Another host starts it from what the drives hold. */
  private judgeElsewhere(): string | null {
    const images = this.world.images();
    const members = images.filter(({ name }) => this.inSync.includes(name));
    if (members.some((image) => typeof superblockOf(image) === "string")) return null;
    const expected = expectationOf(members);
    if (this.inSync.length === 3 && expected !== "whole") return `elsewhere it is ${expected}`;
    if (expected === "too-few") return "elsewhere too few members are current";
    const other = SimWorld.restart(members, { seed: 1 });
    if (other.status().state === "inactive") {
      const started = other.startArray({ force: expected === "refused" });
      if (!started.ok) return `elsewhere: ${started.error.detail}`;
    }
    // A dirty array without a member, and no log: rows that were being written are the write hole.
    if (expected === "refused") return null;
    return this.readAll(other);
  }

  private readAll(other: SimWorld): string | null {
    this.oracle.crash();
    const client = other.client();
    const { status, data } = other.run(client.read(0, this.oracle.sectorCount * SECTOR_BYTES));
    if (status !== 0) return `elsewhere a read is answered ${status}`;
    // Of a member that is missing, what was being written may be torn.
    if (this.policy === "ppl" && this.inSync.length < 3) return null;
    const violation = this.oracle.peek(0, data);
    if (violation !== null) return violation.message;
    return null;
  }
}

for (const policy of POLICIES) {
  test(`rule 21: ${policy}: one drive is taken at each request of a life: all stops there`, () => {
    const { requests } = new FencedLife(policy, NEVER).live();
    expect(requests).toBeGreaterThan(100);
    let fenced = 0;
    const wrong: string[] = [];
    const today = new Share(`fenced at ${policy}`, 3);
    let lived = 0;
    for (let at = 5; at <= requests; at += 1) {
      if (!today.takes(at)) continue;
      lived += 1;
      const life = new FencedLife(policy, at).live();
      if (life.isFenced) fenced += 1;
      const found = life.judge();
      if (found !== null) wrong.push(`request ${at}: ${found}`);
    }
    withShare(() => expect(wrong).toEqual([]));
    expect(fenced).toBeGreaterThan(lived / 2);
  }, 600_000);
}

test("rule 21: what ended in the reap of the first EBADE, before it: is not answered as done", () => {
  const latency = { minMs: 0.2, tailMs: 0 };
  const world = new SimWorld({ seed: 1, batchChance: 1, latency });
  const drives = ["a", "b", "c", "d"];
  for (const name of drives) world.addDrive({ name, sizeBytes: DRIVE_BYTES });
  const shape = { chunkBytes: ROW_BYTES, memberSizeBytes: STRIPES * ROW_BYTES };
  world.createArray({ drives, ...shape });
  world.settle();
  const client = world.client();
  // On "a" and "d"; and on "b" and "c".
  const both = () => [0, 5].map((row) => client.write(row * ROW_BYTES, new Uint8Array(ROW_BYTES)));
  expect(world.run(Promise.all(both()))).toEqual([0, 0]);
  const images = world.images();
  world.device("b").reserve("reads");
  const before = world.device("a").changesSubmitted;
  expect(world.run(Promise.all(both()))).toEqual([EIO, EIO]);
  expect(world.device("a").changesSubmitted).toBe(before + 1);
  expect(world.status()).toMatchObject({ state: "fenced", degraded: 0 });

  const again = SimWorld.restart(images, { seed: 1, batchChance: 1, latency });
  const reader = again.client();
  expect(again.run(reader.write(0, new Uint8Array(ROW_BYTES)))).toBe(0);
  again.device("b").reserve("reads");
  const read = reader.read(0, ROW_BYTES);
  const stripe = reader.write(3 * ROW_BYTES, new Uint8Array(3 * ROW_BYTES));
  expect([again.run(read).status, again.run(stripe)]).toEqual([EIO, EIO]);
});

test("rule 21: a start after a fence: who hangs, and was shut for a fellow, is no reason against it", () => {
  const world = new SimWorld({ seed: 1 });
  const drives = ["a", "b", "c"];
  for (const name of drives) world.addDrive({ name, sizeBytes: DRIVE_BYTES });
  world.createArray({ drives, chunkBytes: ROW_BYTES, memberSizeBytes: STRIPES * ROW_BYTES });
  world.settle();
  const client = world.client();
  world.device("c").hang();
  const write = client.write(0, new Uint8Array(2 * ROW_BYTES));
  const failed = world.call<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
  expect(failed.ok).toBe(true);
  expect(world.run(write)).toBe(0);
  world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME, force: true });
  world.device("a").reserve("nothing");
  const early = world.startArray();
  expect(early).toMatchObject({ ok: false, error: { code: "fenced" } });
  world.device("a").reserve(null);
  expect(world.startArray().ok).toBe(true);
  expect(world.status()).toMatchObject({ degraded: 1 });
});

test("rule 21: long reads of a drive that hangs when it comes: each is answered, and no memory kept", () => {
  const world = new SimWorld({ seed: 1 });
  const drives = ["a", "b", "c"];
  for (const name of drives) world.addDrive({ name, sizeBytes: 24 * MIB });
  world.createArray({ drives, chunkBytes: MIB, memberSizeBytes: 16 * MIB });
  world.settle();
  const client = world.client();
  const { enginePool } = world.context;
  const freeBytes = enginePool.freeBytes;
  world.device("b").hang();
  const reads = Array.from({ length: 16 }, (_, index) => client.read(2 * index * MIB, 2 * MIB));
  world.simulation.runFor(100);
  world.device("a").reserve("reads");
  expect(world.run(client.write(0, new Uint8Array(2 * MIB)))).toBe(EIO);
  const answers = reads.map((read) => world.run(read).status);
  // Of each third stripe the drive has the parity.
  const expected = answers.map((_, stripe) => (stripe % 3 === 1 ? 0 : EIO));
  expect(answers).toEqual(expected);
  // What the drive owes may still be moved.
  world.device("b").release();
  world.simulation.runFor(1000);
  expect(enginePool.freeBytes).toBe(freeBytes);
});
