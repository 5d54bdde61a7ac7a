/**
 * Goal: whatever the kernel answers to a request of a member that may pass (EAGAIN, EINTR, a part
 * moved, io_submit that takes nothing), the client never sees it; what does not pass within the
 * limit costs that member, on record before the write is answered (R7 of the fault goals).
 *
 * Method: one stripe, all policies, through the real AIO queue over a fake kernel. Each operation
 * is run without a fault, which lists its iocbs; then again for each of them: short at each 512
 * bytes, and EAGAIN and EINTR from once to the limit, and beyond.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { EAGAIN, EINTR } from "../../../src/base/errno.ts";
import { fillRandom, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { DEFAULT_RETRY_LIMITS } from "../../../src/block/retry-filter.ts";
import {
  decodeSuperblock,
  Role,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import type { FakeIocb } from "../../helpers/fake-aio-kernel.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share } from "../../helpers/share.ts";
import { KernelWorld } from "../world/kernel-world.ts";

const CHUNK_BYTES = 16 * KIB;
const STRIPES = 2;
const STRIPE_BYTES = 2 * CHUNK_BYTES;
const DRIVE_BYTES = 3 * MIB;
const LIMIT = DEFAULT_RETRY_LIMITS.transientLimit;

interface Operation {
  readonly name: string;
  readonly op: "read" | "write";
  readonly offset: number;
  readonly bytes: number;
}

/** All on the first stripe. The reads are of what the writes have left. */
const OPERATIONS: readonly Operation[] = [
  { name: "a write of a part of a chunk", op: "write", offset: 4096, bytes: 8192 },
  { name: "a write across both chunks", op: "write", offset: CHUNK_BYTES - 5000, bytes: 9000 },
  { name: "a write of the whole stripe", op: "write", offset: 0, bytes: STRIPE_BYTES },
  { name: "a read of the whole stripe", op: "read", offset: 0, bytes: STRIPE_BYTES },
];

/** A world with a stripe, and what the stripe holds. */
class Stripe {
  readonly world = new KernelWorld();
  readonly content = new Uint8Array(STRIPE_BYTES);
  private readonly random = new SeededRandom(7);

  constructor(policy: ConsistencyPolicy) {
    const { world } = this;
    const drives = [0, 1, 2].map(() => world.addDrive(DRIVE_BYTES));
    const memberSizeBytes = STRIPES * CHUNK_BYTES;
    const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes, consistencyPolicy: policy };
    world.createArray({ drives, ...shape });
    world.settle();
    this.run({ name: "fill", op: "write", offset: 0, bytes: STRIPE_BYTES });
    world.settle();
  }

  /** Runs it; the answer is the client's status. A read must give what the stripe holds. */
  run({ op, offset, bytes }: Operation, onAnswer: () => void = () => {}): number {
    const { client } = this.world;
    if (op === "read") {
      const { status, data } = this.world.run(client.read(offset, bytes));
      onAnswer();
      expect(Buffer.compare(data, this.content.subarray(offset, offset + bytes))).toBe(0);
      return status;
    }
    const data = new Uint8Array(bytes);
    fillRandom(this.random, data);
    this.content.set(data, offset);
    return this.world.run(
      client.write(offset, data).then((status) => {
        onAnswer();
        return status;
      }),
    );
  }

  /** The iocbs of one run without a fault, until the array is clean again; not of the first. */
  iocbsOf(operation: Operation): FakeIocb[] {
    expect(this.run(operation)).toBe(0);
    this.world.settle();
    const from = this.world.kernel.taken.length;
    expect(this.run(operation)).toBe(0);
    this.world.settle();
    return this.world.kernel.taken.slice(from);
  }

  /** All members are there, the stripe reads as written, and its parity holds. */
  expectWhole(): void {
    const { members, degraded } = this.world.settle();
    expect([degraded, ...members.map(({ state }) => state)]).toEqual([
      0,
      "in-sync",
      "in-sync",
      "in-sync",
    ]);
    this.expectContent();
    const [one, two, three] = this.world.disks.map((disk) => {
      const offset = superblockOf(disk).dataOffsetSectors * SECTOR_BYTES;
      return disk.subarray(offset, offset + CHUNK_BYTES);
    });
    expect(one!.every((byte, index) => (byte ^ two![index]! ^ three![index]!) === 0)).toBe(true);
  }

  expectContent(): void {
    expect(this.run({ name: "look", op: "read", offset: 0, bytes: STRIPE_BYTES })).toBe(0);
  }

  /** What the other drives have on record of a member. */
  recordedRoles(drive: number): number[] {
    return this.world.disks.flatMap((disk, index) => {
      return index === drive ? [] : [superblockOf(disk).devRoles[drive]!];
    });
  }
}

function superblockOf(disk: Uint8Array): Superblock {
  const bytes = disk.slice(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES);
  const superblock = decodeSuperblock(bytes, { deviceBytes: DRIVE_BYTES });
  if (!superblock.ok) throw new Error(superblock.error.detail);
  return superblock.value;
}

/** Where an iocb goes: a log takes its units in turn, so that all of it is one place. */
function placeOf({ world }: Stripe, iocb: FakeIocb): string {
  const { log } = superblockOf(world.disks[world.driveOf(iocb)]!);
  const logFrom = log.kind === "ppl" ? SUPERBLOCK_OFFSET_BYTES + log.offsetSectors * 512 : 0;
  const logBytes = log.kind === "ppl" ? log.sizeSectors * 512 : 0;
  const isLog = iocb.offset >= logFrom && iocb.offset < logFrom + logBytes;
  return `${iocb.fd} ${iocb.command} ${isLog ? "log" : iocb.offset}`;
}

/** Matches one request: the first to a place, and what is tried again of it. */
function matcher(stripe: Stripe, place: string): (iocb: FakeIocb) => boolean {
  let first: FakeIocb | null = null;
  return (iocb) => {
    if (first === null && placeOf(stripe, iocb) === place) first = iocb;
    return (
      first !== null &&
      iocb.fd === first.fd &&
      iocb.command === first.command &&
      iocb.offset === first.offset
    );
  };
}

interface Target {
  readonly place: string;
  readonly drive: number;
  readonly bytes: number;
}

/** The requests of an operation by place; no flushes: one that fails costs the member at once. */
function targetsOf(stripe: Stripe, operation: Operation): Target[] {
  const targets = new Map<string, Target>();
  for (const iocb of stripe.iocbsOf(operation)) {
    const place = placeOf(stripe, iocb);
    if (iocb.command === "flush" || targets.has(place)) continue;
    targets.set(place, { place, drive: stripe.world.driveOf(iocb), bytes: iocb.bytes });
  }
  expect(targets.size).toBeGreaterThan(1);
  return [...targets.values()];
}

for (const policy of POLICIES) {
  for (const operation of OPERATIONS) {
    const what = `${operation.name}, ${policy}`;

    test(`R7: ${what}: each member request short at each 512 bytes: never seen, all is there`, () => {
      const stripe = new Stripe(policy);
      const { world } = stripe;
      for (const { place, bytes } of targetsOf(stripe, operation)) {
        for (let moved = SECTOR_BYTES; moved < bytes; moved += SECTOR_BYTES) {
          const isHit = matcher(stripe, place);
          let hits = 0;
          world.answerOf = (iocb) => {
            if (hits > 0 || !isHit(iocb)) return null;
            hits += 1;
            return moved;
          };
          expect([stripe.run(operation), world.settle().degraded]).toEqual([0, 0]);
          expect(hits).toBe(1);
          stripe.expectWhole();
        }
      }
    });

    test(`R7: ${what}: each member request EAGAIN and EINTR 1 to ${LIMIT} times: never seen`, () => {
      const stripe = new Stripe(policy);
      const { world } = stripe;
      for (const { place } of targetsOf(stripe, operation)) {
        for (const errno of [EAGAIN, EINTR]) {
          const today = new Share(`times ${what} ${place} ${errno}`, 4);
          for (let times = 1; times <= LIMIT; times += 1) {
            const isEnd = times === 1 || times === LIMIT;
            if (!isEnd && !today.takes(times)) continue;
            const isHit = matcher(stripe, place);
            let hits = 0;
            world.answerOf = (iocb) => {
              if (hits === times || !isHit(iocb)) return null;
              hits += 1;
              return -errno;
            };
            expect([stripe.run(operation), world.settle().degraded]).toEqual([0, 0]);
            expect(hits).toBe(times);
            stripe.expectWhole();
          }
        }
      }
    });

    test(`R7: ${what}: each member request EAGAIN for ever: the member fails, then the answer`, () => {
      for (const { place, drive } of targetsOf(new Stripe(policy), operation)) {
        const stripe = new Stripe(policy);
        const { world } = stripe;
        stripe.iocbsOf(operation);
        const isHit = matcher(stripe, place);
        const tried: number[] = [];
        world.answerOf = (iocb) => {
          if (!isHit(iocb)) return null;
          tried.push(iocb.bytes);
          return -EAGAIN;
        };
        let recorded: number[] = [];
        const status = stripe.run(operation, () => {
          recorded = stripe.recordedRoles(drive);
        });
        // A request that comes after the answer, as that of the clean mark, fails it later.
        const isLater = tried.length <= LIMIT;
        const { degraded, members } = world.settle();
        const { state } = members[drive]!;
        expect([place, status, degraded, state]).toEqual([place, 0, 1, "faulty"]);
        // Requests that the queue had merged are tried alone after the first answer.
        const tries = tried.filter((bytes) => bytes === tried.at(-1)).length;
        expect([place, tries]).toEqual([place, LIMIT + 1]);
        if (operation.op === "write" && !isLater) {
          expect(recorded).toEqual([Role.faulty, Role.faulty]);
        }
        expect(stripe.recordedRoles(drive)).toEqual([Role.faulty, Role.faulty]);
        world.answerOf = () => null;
        stripe.expectContent();
      }
    });
  }

  test(`R7: ${policy}: io_submit takes nothing, at each call, 1 to ${LIMIT + 1} times: never seen`, () => {
    const stripe = new Stripe(policy);
    const { kernel } = stripe.world;
    for (const operation of OPERATIONS) {
      const before = kernel.submitCount;
      stripe.iocbsOf(operation);
      const calls = kernel.submitCount - before;
      for (const errno of [EAGAIN, EINTR]) {
        for (let call = 0; call < Math.min(calls, 12); call += 1) {
          for (let times = 1; times <= LIMIT + 1; times += 5) {
            const full = Array<number>(call).fill(Number.MAX_SAFE_INTEGER);
            kernel.submitAnswers.push(...full, ...Array<number>(times).fill(-errno));
            expect(stripe.run(operation)).toBe(0);
            kernel.submitAnswers.length = 0;
            stripe.expectWhole();
          }
        }
      }
    }
  });
}
