/**
 * Goal: a growth in members that is refused, at whatever step, leaves the array and the new drives
 * as they were, but for what happened to them meanwhile and what the refusal tells.
 *
 * Method: the command is given once for each request that the drives get until it is answered, and
 * at that request something happens: a drive dies, takes no write, has no room, is another host's.
 * Of what is refused everything is looked at: the array, the drives, what is on them, what a start
 * makes of that.
 */
import { expect, test } from "bun:test";
import { EBADE, EIO, ENOSPC, ENXIO } from "../../../src/base/errno.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { FaultPlan } from "../world/sim-faults.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8 * KIB;
const STRIPES = 12;
const MEMBERS = ["d0", "d1", "d2"];
const ADDED = ["d3", "d4"];
const OLD_BYTES = STRIPES * 2 * CHUNK_BYTES;
const OLD_SECTORS = OLD_BYTES / SECTOR_BYTES;
const NEVER = Number.POSITIVE_INFINITY;

class Life {
  readonly world: SimWorld;
  readonly oracle: SectorOracle;
  /** Requests of all drives since the command was given. */
  requests = 0;

  constructor() {
    this.world = new SimWorld({ seed: 1, batchChance: 0.5 });
    const { world } = this;
    for (const name of [...MEMBERS, ...ADDED]) world.addDrive({ name, sizeBytes: 3 * MIB });
    const memberSizeBytes = STRIPES * CHUNK_BYTES;
    world.createArray({ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes });
    world.settle();
    this.oracle = new SectorOracle({ seed: 1, sectorCount: OLD_SECTORS });
    const write = this.client.write({ lba: 0, sectors: OLD_SECTORS }, { fua: true });
    expect(world.run(write)).toBe(0);
    world.settle();
  }

  get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  /** At the nth request of any drive from now on this happens. */
  arm(nth: number, happens: () => void): void {
    for (const name of [...MEMBERS, ...ADDED]) {
      const device = this.world.device(name);
      const submit = device.submit.bind(device);
      device.submit = (request) => {
        this.requests += 1;
        if (this.requests === nth) happens();
        submit(request);
      };
    }
  }

  plan(name: string, plan: FaultPlan): void {
    this.world.device(name).faults.plan(plan);
  }

  readAll(): void {
    const { status, data } = this.world.run(this.world.client().read(0, OLD_BYTES));
    expect([status, this.oracle.peek(0, data)?.message ?? null]).toEqual([0, null]);
  }

  /** What is on a new drive: nobody's, or a member's or a spare's superblock. */
  isBlank(name: string): boolean {
    return typeof superblockOf(this.world.device(name).image()) === "string";
  }
}

interface Happening {
  readonly name: string;
  readonly happens: (life: Life) => void;
  /** New drives that cannot be written from then on. */
  readonly lost: readonly string[];
  /** Members that are lost by it at most; 2: nothing is served any more. */
  readonly degraded: number;
  /** Beside "taken". */
  readonly codes: readonly string[];
}

const DEAD = { fault: { kind: "dead", errno: ENXIO }, count: NEVER } as const;
const NO_WRITE = { fault: { kind: "dead", errno: EIO }, op: Op.write, count: NEVER } as const;

const LOST = ["drive-write-failed", "growth-not-now"];

const HAPPENINGS: readonly Happening[] = [
  ...ADDED.map((name) => ({
    ...{ name: `new drive ${name} dies`, lost: [name], degraded: 0, codes: LOST },
    happens: (life: Life) => life.plan(name, DEAD),
  })),
  ...ADDED.map((name) => ({
    ...{ name: `new drive ${name} takes no write`, lost: [name], degraded: 0, codes: LOST },
    happens: (life: Life) => life.plan(name, NO_WRITE),
  })),
  ...["d0", "d2"].map((name) => ({
    ...{ name: `member ${name} dies`, lost: [], degraded: 1, codes: ["growth-not-now"] },
    happens: (life: Life) => life.plan(name, DEAD),
  })),
  {
    ...{ name: "two members die", lost: [], degraded: 2 },
    codes: ["not-writable", "superblock-write-failed", "too-few-members"],
    happens: (life) => {
      for (const name of ["d0", "d2"]) life.plan(name, DEAD);
    },
  },
  {
    ...{ name: "no room under a new drive", lost: ["d3"], degraded: 0 },
    codes: ["drive-write-failed"],
    happens: (life) => {
      life.plan("d3", { fault: { kind: "dead", errno: ENOSPC }, op: Op.write, count: NEVER });
    },
  },
  {
    ...{ name: "another host has the drives", lost: ADDED, degraded: 2 },
    codes: ["fenced"],
    happens: (life) => {
      for (const name of [...MEMBERS, ...ADDED]) {
        life.plan(name, { fault: { kind: "dead", errno: EBADE }, count: NEVER });
      }
    },
  },
];

/** Requests until the command is answered; and what came of it. */
function live({ happens, lost, degraded, name }: Happening, nth: number) {
  const life = new Life();
  const { world } = life;
  life.arm(nth, () => happens(life));
  const limitMs = 60_000;
  const grown = world.run(
    world.command<"add-members">({
      ...{ kind: "add-members", array: ARRAY_NAME, drives: ADDED, force: false },
      policyAfter: "resync",
    }),
    limitMs,
  );
  const { requests } = life;
  if (grown.ok) return { requests, code: "taken" };
  const { code, detail } = grown.error;
  const at = `${name} at ${nth}: ${detail}`;
  const status = world.status();
  const isOnItsWay = status.members.length > MEMBERS.length;
  expect([at, isOnItsWay]).toEqual([at, /gets more members/.test(detail)]);
  if (isOnItsWay) return { requests, code };
  for (const drive of ADDED) {
    const isTold = detail.includes(`drive ${drive} is a spare of the array`);
    const hasRole = detail.includes(`drive ${drive} has role`);
    const seated = status.members.some((member) => member.drive === drive);
    expect([at, drive, seated]).toEqual([at, drive, hasRole]);
    if (isTold) expect([at, lost]).toEqual([at, expect.arrayContaining([drive])]);
    else if (!hasRole && !lost.includes(drive)) {
      expect([at, drive, life.isBlank(drive)]).toEqual([at, drive, true]);
      const drives = world.must<"list-drives">({ kind: "list-drives" });
      const { state } = drives.find((each) => each.name === drive)!;
      expect([at, drive, state]).toEqual([at, drive, "available"]);
    }
  }
  expect([at, status.spares]).toEqual([at, []]);
  if (degraded > 1) return { requests, code };
  expect([at, status.degraded <= degraded]).toEqual([at, true]);
  life.readAll();
  return { requests, code };
}

for (const happening of HAPPENINGS) {
  test(`reshape refused: ${happening.name}, at any request until it is answered`, () => {
    const { requests } = live({ ...happening, happens: () => {} }, NEVER);
    expect(requests).toBeGreaterThan(20);
    const codes = new Set<string>();
    for (let nth = 1; nth <= requests; nth += 1) codes.add(live(happening, nth).code);
    codes.delete("taken");
    expect([...codes].sort()).toEqual([...happening.codes]);
  });
}
