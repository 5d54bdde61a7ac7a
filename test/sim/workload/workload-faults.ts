/**
 * Injects faults within the budget: one member is faulty at a time, so that whatever goes wrong
 * for a client is a bug. The faulty one is the victim. It changes only while the array is whole,
 * and moves along when the victim's role is given to another drive.
 *
 * While parity is being recomputed the array has no redundancy (policy `resync`): then only faults
 * that pass by themselves are injected.
 */
import type { ArrayStatus } from "../../../src/array/protocol.ts";
import { EIO, ENODATA } from "../../../src/base/errno.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { decodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { PAGE_BYTES } from "../world/media.ts";
import { areasOf, superblockOf } from "../world/member-oracle.ts";
import type { SimDevice } from "../world/sim-device.ts";
import { type FaultRates, NO_FAULTS, type SimFault } from "../world/sim-faults.ts";
import type { SimWorld } from "../world/sim-world.ts";
import type { FaultKind, Plan } from "./workload-plan.ts";

const LOST_ERRNOS = [6, 19, 67, 131, 22];
/** Below the read deadline. */
const STALL_MS_MAX = 4000;
/** Beyond the write deadline. */
const HANG_MS = 400_000;

type RateKind = Exclude<FaultKind, "latent" | "lost" | "stall" | "hang" | "vanish">;

const RATE_OF: Record<RateKind, { key: keyof FaultRates; most: number; passes: boolean }> = {
  transient: { key: "transient", most: 0.2, passes: true },
  refused: { key: "refused", most: 0.2, passes: true },
  short: { key: "short", most: 0.3, passes: true },
  slow: { key: "slow", most: 0.05, passes: true },
  "read-media": { key: "readMedia", most: 0.1, passes: false },
  "write-media": { key: "writeMedia", most: 0.04, passes: false },
  "no-space": { key: "noSpace", most: 0.05, passes: false },
};

export class FaultActor {
  victim: string | null = null;
  /** All rows were written since the create: a member may be lost in the first resync. */
  isProven = false;
  /** Drives that are unplugged. */
  readonly vanished = new Set<string>();
  private readonly plan: Plan;
  private readonly random: SeededRandom;
  private readonly latent = new Set<string>();
  private readonly held = new Set<string>();

  constructor(options: { plan: Plan; random: SeededRandom }) {
    this.plan = options.plan;
    this.random = options.random;
  }

  /** Whether the victim may hold sectors that cannot be read. */
  get hasLatent(): boolean {
    return this.latent.size > 0;
  }

  /** Looks at the array, and perhaps does it harm. */
  act(world: SimWorld, status: ArrayStatus): void {
    this.follow(world, status);
    if (this.victim === null) return;
    const device = world.device(this.victim);
    const canLose = this.canLose(status);
    if (!canLose) this.calm(device);
    const kinds = [...this.plan.features].filter((kind) => kind in RATE_OF) as RateKind[];
    if (nextBelow(this.random, 3) === 0) this.setRates(device, kinds, canLose);
    if (canLose && nextBelow(this.random, 3) === 0) this.harm(world, status, device);
  }

  /** Makes a member fail with its next write, if the budget has room for that. */
  strike(world: SimWorld, status: ArrayStatus): void {
    this.follow(world, status);
    if (this.victim === null || !this.canLose(status)) return;
    const { faults } = world.device(this.victim);
    faults.plan({ fault: { kind: "result", result: -6 }, op: Op.write, count: 1000 });
  }

  /** Faults stop everywhere, and what is gone comes back as it is. */
  quiet(world: SimWorld): void {
    for (const device of world.devices.values()) this.heal(device);
  }

  /** The drive works again from now on. */
  heal(device: SimDevice): void {
    device.faults.quiet();
    device.comeBack();
    device.release();
    this.vanished.delete(device.name);
    this.held.delete(device.name);
  }

  /** Everything that was injected is gone with the old machine, except for latent sectors. */
  restarted(): void {
    this.vanished.clear();
    this.held.clear();
    this.victim = null;
    this.isProven = false;
  }

  /** Sectors of this drive were all written anew. */
  forgetLatent(): void {
    this.latent.clear();
  }

  private canLose({ sync, state }: ArrayStatus): boolean {
    return (sync.action !== "resync" || this.isProven) && state !== "read-only";
  }

  private follow(world: SimWorld, status: ArrayStatus): void {
    const ill = status.members.find(({ state }) => state !== "in-sync");
    if (ill !== undefined) {
      if (ill.drive !== null && ill.drive !== this.victim) this.victim = ill.drive;
      return;
    }
    const isBusy =
      status.sync.action === "rebuild" ||
      (status.sync.action === "resync" && !this.isProven) ||
      this.latent.size > 0 ||
      this.held.size > 0 ||
      this.vanished.size > 0 ||
      // The victim may be about to fail, whatever is injected from now on.
      (this.victim !== null && world.device(this.victim).hasFaultInFlight);
    // A row that its member could not take has no redundancy left.
    if (isBusy || nextBelow(this.random, 4) > 0 || hasBadBlocks(world)) return;
    if (this.victim !== null) world.device(this.victim).faults.quiet();
    const { members } = status;
    this.victim = members[nextBelow(this.random, members.length)]!.drive;
  }

  private setRates(device: SimDevice, kinds: readonly RateKind[], canLose: boolean): void {
    const rates = { ...NO_FAULTS };
    for (const kind of kinds) {
      const { key, most, passes } = RATE_OF[kind];
      if ((passes || canLose) && nextBelow(this.random, 2) === 0) {
        rates[key] = most * nextFraction(this.random) ** 2;
      }
    }
    device.faults.rates = rates;
  }

  /** Only faults that pass by themselves go on. */
  private calm(device: SimDevice): void {
    const { transient, refused, short, slow } = device.faults.rates;
    device.faults.quiet();
    device.faults.rates = { ...NO_FAULTS, transient, refused, short, slow };
  }

  private harm(world: SimWorld, status: ArrayStatus, device: SimDevice): void {
    const { random, plan } = this;
    const choices = (["latent", "lost", "stall", "hang", "vanish"] as const).filter((kind) =>
      plan.features.has(kind),
    );
    const kind = choices[nextBelow(random, choices.length)];
    const isMember = status.members.some(
      ({ drive, state }) => drive === device.name && state !== "faulty",
    );
    if (kind === undefined || !isMember) return;
    // A member that is lost is rarer than one that stutters.
    if (kind !== "latent" && kind !== "stall" && nextBelow(random, 4) > 0) return;
    switch (kind) {
      case "latent":
        this.addLatent(device);
        break;
      case "lost":
        device.faults.plan({ fault: this.lostFault(), skip: nextBelow(random, 8), count: 1000 });
        break;
      case "stall":
        this.hold(world, device, 10 + nextBelow(random, STALL_MS_MAX));
        break;
      case "hang":
        this.hold(world, device, HANG_MS);
        break;
      case "vanish":
        device.vanish(nextBelow(random, 2) === 0 ? "random" : "drop");
        this.vanished.add(device.name);
        break;
    }
  }

  private lostFault(): SimFault {
    const errno = LOST_ERRNOS[nextBelow(this.random, LOST_ERRNOS.length)]!;
    // 0: the device ends before its size.
    return { kind: "result", result: nextBelow(this.random, 6) === 0 ? 0 : -errno };
  }

  private hold(world: SimWorld, device: SimDevice, forMs: number): void {
    if (this.held.has(device.name)) return;
    this.held.add(device.name);
    device.hang();
    world.simulation.scheduleAfter(forMs, () => {
      if (!this.held.delete(device.name)) return;
      device.release();
    });
  }

  private addLatent(device: SimDevice): void {
    const image = device.image();
    if (typeof superblockOf(image) === "string") return;
    const data = areasOf(image).find(({ name }) => name === "data")!;
    const rows = data.bytes / ROW_BYTES;
    const first = nextBelow(this.random, rows);
    const count = 1 + nextBelow(this.random, 4);
    const errno = nextBelow(this.random, 2) === 0 ? EIO : ENODATA;
    for (let row = first; row < Math.min(rows, first + count); row += 1) {
      const sector = nextBelow(this.random, ROW_BYTES / SECTOR_BYTES) * SECTOR_BYTES;
      device.addLatent(data.offset + row * ROW_BYTES + sector, errno);
    }
    this.latent.add(device.name);
  }
}

/** Whether any drive has rows in its bad-block log. */
export function hasBadBlocks(world: SimWorld): boolean {
  return [...world.devices.values()].some((device) => {
    const page = device.page(SUPERBLOCK_OFFSET_BYTES / PAGE_BYTES);
    const decoded = decodeSuperblock(page, { deviceBytes: device.sizeBytes });
    return decoded.ok && decoded.value.hasBadBlocks;
  });
}
