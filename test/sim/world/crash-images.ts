/**
 * From the trace of a run: what the drives may hold if the power is cut at each event.
 *
 * At every boundary the sectors that no flush has covered are open. A fate is chosen for each, over
 * all drives together. With 10 or fewer open sectors all combinations are made; with more: all
 * kept, all dropped, each one alone dropped, each one alone kept, and 8 at random. With garbage,
 * each open sector is also torn alone, among the kept ones and among the dropped ones.
 *
 * Images are made one at a time and share their pages with the drives of the replay, so that
 * memory stays bounded by the run, not by the number of images.
 */
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import type { DeviceTrace } from "./device-trace.ts";
import { type DeviceImage, Fate, Media, type PendingSector } from "./media.ts";

const EXHAUSTIVE_MAX = 10;
const COMBINATIONS_MAX = 2 ** EXHAUSTIVE_MAX;
const RANDOM_COUNT = 8;

export interface CrashImages {
  /** Events of the trace that had happened. */
  readonly boundary: number;
  /** Counts all images of the trace, also those that are not made. */
  readonly number: number;
  /** Which fates were chosen, for a report. */
  readonly label: string;
  /** By the number of the drive in the trace. */
  readonly images: readonly DeviceImage[];
}

export interface CrashOptions<Mark> {
  readonly trace: DeviceTrace<Mark>;
  readonly seed: number;
  readonly withGarbage?: boolean;
  /** Each mark, in order, before the images of the boundaries after it. */
  readonly onMark?: (mark: Mark) => void;
  /** Which boundaries to take; default all. For sampling and for repeating one. */
  readonly isWanted?: (boundary: number) => boolean;
  /** Which images to make, by number; default all. The others cost next to nothing. */
  readonly takes?: (number: number) => boolean;
}

interface OpenSector {
  readonly device: number;
  /** Index into the pending sectors of its drive. */
  readonly index: number;
  readonly candidateCount: number;
}

/** By open sector: an index into its candidates, or a Fate. */
type Fates = readonly number[];

export function* crashImages<Mark>(options: CrashOptions<Mark>): Generator<CrashImages> {
  const { trace, seed, withGarbage = false, isWanted = () => true } = options;
  const { takes = () => true } = options;
  const media = trace.bases.map((base) => new Media(base));
  let first = 0;
  for (let boundary = 0; boundary <= trace.events.length; boundary += 1) {
    const event = trace.events[boundary - 1];
    if (event?.kind === "device") media[event.device]!.apply(event.event);
    if (event?.kind === "mark") options.onMark?.(event.mark);
    // Nothing new can be lost by a mark, but promises changed: its boundary counts too.
    if (!isWanted(boundary)) continue;
    const random = new SeededRandom(seed ^ Math.imul(boundary + 1, 0x9e37_79b1));
    first = yield* imagesAt({ media, boundary, random, withGarbage, takes, first });
  }
}

/** The answer is the number of the next image. */

function* imagesAt(options: {
  media: readonly Media[];
  boundary: number;
  random: SeededRandom;
  withGarbage: boolean;
  takes: (number: number) => boolean;
  first: number;
}): Generator<CrashImages, number> {
  const { media, boundary, random, withGarbage, takes, first } = options;
  const pending = media.map((each) => each.pendingSectors());
  const open = openSectors(pending);
  let next = first;
  for (const [label, fates] of combinations(open, random, withGarbage)) {
    const number = next;
    next += 1;
    // Of its own: the garbage of an image is the same whichever others are made.
    const garbage = withGarbage ? random.split() : random;
    if (!takes(number)) continue;
    const images = media.map((each, device) => {
      const fateOf: number[] = [];
      for (const [at, sector] of open.entries()) {
        if (sector.device === device) fateOf[sector.index] = fates[at]!;
      }
      return each.crashImage(pending[device]!, (index) => fateOf[index]!, garbage);
    });
    yield { boundary, number, label, images };
  }
  return next;
}

function openSectors(pending: readonly (readonly PendingSector[])[]): OpenSector[] {
  return pending.flatMap((sectors, device) =>
    sectors.map(({ candidates }, index) => ({
      device,
      index,
      candidateCount: candidates.length,
    })),
  );
}

function* combinations(
  open: readonly OpenSector[],
  random: SeededRandom,
  withGarbage: boolean,
): Generator<[string, Fates]> {
  const count = open.reduce((product, { candidateCount }) => product * (candidateCount + 1), 1);
  if (open.length <= EXHAUSTIVE_MAX && count <= COMBINATIONS_MAX) yield* allOf(open, count);
  else yield* someOf(open, random);
  if (withGarbage) yield* tornOf(open);
}

function* allOf(open: readonly OpenSector[], count: number): Generator<[string, Fates]> {
  for (let number = 0; number < count; number += 1) {
    let rest = number;
    const fates = open.map(({ candidateCount }) => {
      const digit = rest % (candidateCount + 1);
      rest = Math.floor(rest / (candidateCount + 1));
      return digit === 0 ? Fate.durable : digit - 1;
    });
    yield [`combination ${number} of ${count}`, fates];
  }
}

function* someOf(open: readonly OpenSector[], random: SeededRandom): Generator<[string, Fates]> {
  const kept = newest(open);
  const dropped = open.map(() => Fate.durable as number);
  yield ["all kept", kept];
  yield ["all dropped", dropped];
  for (let at = 0; at < open.length; at += 1) yield [`dropped ${at}`, kept.with(at, Fate.durable)];
  for (let at = 0; at < open.length; at += 1) yield [`kept ${at}`, dropped.with(at, kept[at]!)];
  for (let turn = 0; turn < RANDOM_COUNT; turn += 1) {
    const fates = open.map(({ candidateCount }) => nextBelow(random, candidateCount + 1) - 1);
    yield [`random ${turn}`, fates];
  }
}

function* tornOf(open: readonly OpenSector[]): Generator<[string, Fates]> {
  const kept = newest(open);
  const dropped = open.map(() => Fate.durable as number);
  for (let at = 0; at < open.length; at += 1) {
    yield [`kept, torn ${at}`, kept.with(at, Fate.garbage)];
    yield [`dropped, torn ${at}`, dropped.with(at, Fate.garbage)];
  }
}

function newest(open: readonly OpenSector[]): number[] {
  return open.map(({ candidateCount }) => candidateCount - 1);
}
