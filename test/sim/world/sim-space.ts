/**
 * The room under several simulated drives: a file system that their files share, a quota, a thin
 * pool. It fills up and gets room again, for all of them at once.
 *
 * | kind            | what is refused while it is full                                       |
 * |-----------------|------------------------------------------------------------------------|
 * | `holes`         | what would fill a hole; what is written over stays possible (ext4, XFS)|
 * | `copy-on-write` | any write, by chance, also over what is there (btrfs, thin, snapshots) |
 *
 * Of a write that is refused a part may have landed.
 */
import { EDQUOT, ENOSPC } from "../../../src/base/errno.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import type { SimDevice } from "./sim-device.ts";
import type { SimFault } from "./sim-faults.ts";

export type SpaceKind = "holes" | "copy-on-write";

export class SimSpace {
  readonly kind: SpaceKind;
  refusals = 0;
  private readonly random: SeededRandom;
  private readonly errno: number;
  /** Of a write over what is there, with `copy-on-write`. */
  private readonly chance: number;

  constructor(options: { random: SeededRandom; kind: SpaceKind; chance?: number; errno?: number }) {
    const { random, kind } = options;
    this.random = random;
    this.kind = kind;
    this.errno = options.errno ?? (nextBelow(random, 2) === 0 ? ENOSPC : EDQUOT);
    this.chance = options.chance ?? [0.1, 0.5, 1][nextBelow(random, 3)]!;
  }

  /** From now on these drives have no room. */
  fill(devices: Iterable<SimDevice>): void {
    for (const device of devices) device.space = this;
  }

  static giveRoom(devices: Iterable<SimDevice>): void {
    for (const device of devices) device.space = null;
  }

  /** What happens to a write; null: it has room. */
  take({ isHole }: { isHole: boolean }): SimFault | null {
    const isRefused = this.kind === "holes" ? isHole : nextFraction(this.random) < this.chance;
    if (!isRefused) return null;
    this.refusals += 1;
    const isPart = nextBelow(this.random, 2) === 0;
    if (isPart) return { kind: "result", result: -this.errno };
    return { kind: "dead", errno: this.errno };
  }
}
