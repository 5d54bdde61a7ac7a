/** Sizes, rates and times as people write them (base/quantity.ts: as they read them). */
import { err, ok, type Result } from "../base/result.ts";
import { GIB, KIB, MIB, TIB } from "../base/units.ts";

const FACTORS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: KIB,
  MiB: MIB,
  GiB: GIB,
  TiB: TIB,
};

/**
 * `200MiB`, `64KiB`, `4096B`; with `/s` for a rate. A unit of ten (MB) and a bare number are refused,
 * not guessed.
 */
export function parseBytes(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.replace(/\/s$/, ""));
  const factor = FACTORS[match?.[2] ?? "none"];
  if (match?.[2] === "") {
    return err(
      `"${text}" has no unit: write ${match[1]}KiB or ${match[1]}MiB, or ${match[1]}B for bytes`,
    );
  }
  const bytes = Math.round(Number(match?.[1]) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    return err(`"${text}" is not a size: write it like 64KiB, 200MiB or 1.5TiB`);
  }
  return ok(bytes);
}

const MINUTES_OF: Readonly<Record<string, number>> = {
  ...{ m: 1, min: 1, h: 60, d: 1_440, w: 10_080 },
};

/** `360m` (or min), `6h`, `30d`, `2w`, in whole minutes; a bare number is refused, not guessed. */
export function parseMinutes(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/.exec(text);
  const factor = MINUTES_OF[match?.[2] ?? "none"];
  if (match?.[2] === "") {
    return err(`"${text}" has no unit: write ${text}h for hours, or ${text}m for minutes`);
  }
  const minutes = Number(match?.[1]) * (factor ?? Number.NaN);
  if (!Number.isSafeInteger(minutes) || minutes <= 0) {
    return err(`"${text}" is no time in whole minutes: write it like 360m, 6h or 30d`);
  }
  return ok(minutes);
}
