/**
 * Goal: where an array waits for something and goes on, what it relied on may have changed by then.
 * Method: a short life is lived once for each end of such a wait (a superblock update, a flush of
 * the engine, memory): what was waited for has come, and before who waited goes on a member fails,
 * or another host takes the array. Nothing that was flushed is lost, no assertion is violated, and
 * what the drives hold starts again.
 */
import { expect, test } from "bun:test";
import type { CommandError, ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { SuperblockWriter } from "../../../src/array/running/superblock-writer.ts";
import type { Result } from "../../../src/base/result.ts";
import { MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { SlabPool } from "../../../src/block/pool.ts";
import { StripeEngine } from "../../../src/raid5/engine.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { expectationOf } from "../workload/workload.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8192;
const CHUNK_SECTORS = CHUNK_BYTES / SECTOR_BYTES;
const STRIPES = 4;
const MEMBERS = ["a", "b", "c"];
const NEVER = Number.POSITIVE_INFINITY;

/** What happens in between. */
type Blow = "a member fails" | "another host takes it";

class Life {
  /** Ends of waits so far. */
  ends = 0;
  hasStruck = false;
  readonly world: SimWorld;
  private readonly policy: ConsistencyPolicy;
  private readonly blow: Blow;
  private readonly at: number;
  private oracle = new SectorOracle({ seed: 1, sectorCount: 1 });

  constructor(policy: ConsistencyPolicy, blow: Blow, at: number) {
    this.policy = policy;
    this.blow = blow;
    this.at = at;
    this.world = new SimWorld({ seed: at === NEVER ? 1 : at, batchChance: 0.7 });
    for (const name of [...MEMBERS, "new"]) this.world.addDrive({ name, sizeBytes: 3 * MIB });
  }

  /** Called where a wait has ended, before who waited is told. */
  ended(): void {
    const array = this.world.service.registry.byName(ARRAY_NAME)?.running ?? null;
    if (array === null || !array.core.hasStarted || array.core.isStopped) return;
    this.ends += 1;
    if (this.ends !== this.at) return;
    const { members, roster } = array.core;
    const present = [0, 1, 2].filter((role) => members.isPresent(role));
    const role = present[this.at % present.length];
    if (role === undefined) return;
    this.hasStruck = true;
    if (this.blow === "a member fails") array.failMember(role, "it failed in between");
    else this.world.service.registry.fenced(roster.driveAt(role)!);
  }

  live(): void {
    if (!this.create()) return;
    const steps = [
      () => this.writeSome(0),
      () => this.world.simulation.runFor(1000),
      () => this.replace(),
      () => this.world.simulation.runFor(1000),
      () => this.scrub(),
      () => this.changePolicy(),
      () => this.writeSome(2),
      () => this.stopAndStart(),
      () => this.writeSome(3),
      () => this.world.simulation.runFor(1000),
    ];
    for (const step of steps) {
      if (this.isOver) break;
      step();
    }
  }

  /** It serves no more writes. */
  private get isOver(): boolean {
    return ["failed", "fenced", "read-only", "inactive"].includes(this.world.status().state);
  }

  private create(): boolean {
    const created = this.world.call<"create-array">({
      ...{ kind: "create-array", name: ARRAY_NAME, drives: MEMBERS, spares: [] },
      ...{ chunkBytes: CHUNK_BYTES, memberSizeBytes: STRIPES * CHUNK_BYTES },
      ...{ consistencyPolicy: this.policy, assumeClean: false, force: false },
    });
    this.told(created);
    if (!created.ok) return false;
    const { sizeBytes } = created.value;
    this.oracle = new SectorOracle({ seed: 1, sectorCount: sizeBytes / SECTOR_BYTES });
    return true;
  }

  private get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  private writeSome(round: number): void {
    this.run(Promise.all(this.writes(round)));
    const status = this.world.run(this.client.flush());
    if (!this.isOver) expect(status).toBe(0);
  }

  private writes(round: number): Promise<number>[] {
    const { client } = this;
    return [
      client.write({ lba: round, sectors: 3 }, { fua: true }),
      client.write({ lba: CHUNK_SECTORS * 2 - 5, sectors: 11 }),
      client.write({ lba: CHUNK_SECTORS * 4, sectors: CHUNK_SECTORS * 2 }),
    ];
  }

  private run(writes: Promise<number[]>): void {
    const statuses = this.world.run(writes);
    if (!this.isOver) expect(statuses).toEqual(statuses.map(() => 0));
  }

  /** Writes go on while the new member is filled. */
  private replace(): void {
    const { world } = this;
    this.told(world.call<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "a" }));
    if (this.isOver) return;
    const added = world.command<"add-member">({
      ...{ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false },
    });
    this.run(Promise.all(this.writes(1)));
    this.told(world.run(added));
  }

  private scrub(): void {
    const started = this.world.call<"start-scrub">({
      ...{ kind: "start-scrub", array: ARRAY_NAME, mode: "repair", restart: true },
      limitBytesPerSecond: null,
    });
    this.told(started);
    if (started.ok) this.world.waitJob(started.value.id);
  }

  private changePolicy(): void {
    const next = POLICIES[(POLICIES.indexOf(this.policy) + 1) % POLICIES.length]!;
    const changed = this.world.call<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, consistencyPolicy: next },
    });
    this.told(changed);
  }

  private stopAndStart(): void {
    const { world } = this;
    this.told(world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME }));
    if (!this.isOver) return;
    this.told(world.startArray({ force: true }));
  }

  /** A command may be refused for what has happened, and for nothing else. */
  private told(answer: Result<unknown, CommandError>): void {
    if (!answer.ok && !this.hasStruck) throw new Error(answer.error.detail);
  }

  /** What is wrong at the end, or null. */
  judge(): string | null {
    const { world } = this;
    world.simulation.runFor(5000);
    const [status] = world.must<"list-arrays">({ kind: "list-arrays" });
    if (status === undefined) return null;
    const { state } = status;
    if (this.blow === "another host takes it" && this.hasStruck) {
      if (state !== "fenced" && state !== "inactive") return `it is ${state}`;
      const fencedAt = world.events.findIndex(({ kind }) => kind === "array.fenced");
      const blame = world.events.find(
        ({ kind }, at) => at > fencedAt && fencedAt >= 0 && kind === "member.failed",
      );
      if (blame !== undefined) return blame.message;
    }
    const served = this.isOver ? null : this.readAll(world);
    return served ?? this.judgeAgain();
  }

  /** It starts from what the drives hold. */
  private judgeAgain(): string | null {
    const images = this.world.images().filter((image) => typeof superblockOf(image) !== "string");
    const expected = expectationOf(images);
    if (expected === "too-few") return "too few members are current";
    this.oracle.crash();
    const again = SimWorld.restart(images, { seed: 1 });
    if (again.status().state === "inactive") {
      const started = again.startArray({ force: true });
      if (!started.ok) return `started again: ${started.error.detail}`;
    }
    // A dirty array without a member: rows that were being written are the write hole.
    const { degraded } = again.status();
    if (degraded > 0 && (expected === "refused" || this.isOver)) return null;
    return this.readAll(again);
  }

  private readAll(world: SimWorld): string | null {
    const bytes = this.oracle.sectorCount * SECTOR_BYTES;
    const { status, data } = world.run(world.client().read(0, bytes));
    if (status !== 0) return `a read is answered ${status}`;
    return this.oracle.peek(0, data)?.message ?? null;
  }
}

/** Lives one, with the ends of its waits told to it. */
function live(policy: ConsistencyPolicy, blow: Blow, at: number): Life {
  const life = new Life(policy, blow, at);
  const waits = [
    [SuperblockWriter.prototype, "update"],
    [StripeEngine.prototype, "flush"],
    [SlabPool.prototype, "take"],
  ] as const;
  const originals = waits.map(([owner, name]) => {
    const original = Reflect.get(owner, name) as (...words: unknown[]) => Promise<unknown>;
    Reflect.set(owner, name, async function (this: unknown, ...words: unknown[]) {
      const result = await original.apply(this, words);
      life.ended();
      return result;
    });
    return original;
  });
  try {
    life.live();
    return life;
  } finally {
    for (const [index, [owner, name]] of waits.entries()) {
      Reflect.set(owner, name, originals[index]);
    }
  }
}

for (const policy of POLICIES) {
  for (const blow of ["a member fails", "another host takes it"] as const) {
    test(`one step late: ${policy}: ${blow} at each end of a wait: nothing is lost`, () => {
      const { ends } = live(policy, blow, NEVER);
      expect(ends).toBeGreaterThan(30);
      const wrong: string[] = [];
      let struck = 0;
      for (let at = 1; at <= ends; at += 1) {
        const life = live(policy, blow, at);
        if (life.hasStruck) struck += 1;
        const found = life.judge();
        if (found !== null) wrong.push(`end ${at}: ${found}`);
      }
      expect(wrong).toEqual([]);
      expect(struck).toBeGreaterThan(ends / 2);
    }, 600_000);
  }
}
