/**
 * What an answer of a webhook means, and when it is tried again. Pure.
 *
 * | status        | verdict | because                                                          |
 * |---------------|---------|------------------------------------------------------------------|
 * | 2xx           | arrived |                                                                  |
 * | 408, 425, 429 | failed  | the receiver asks for another try                                |
 * | other 4xx     | refused | the same request is refused again                                |
 * | 3xx           | failed  | not followed: an alert goes where it was told to, nowhere else   |
 * | else          | failed  | it may pass                                                      |
 *
 * Tries of one webhook are 1, 2, 4, ... seconds apart, at most a quarter of an hour; of that one
 * half is by chance, so that many hosts do not come back at once. Retry-After makes it longer.
 */
import type { Delivery } from "./alert.ts";

export const DAY_MS = 86_400_000;
const BACK_OFF_MS_MIN = 1_000;
const BACK_OFF_MS_MAX = 15 * 60_000;

const ASKS_AGAIN: ReadonlySet<number> = new Set([408, 425, 429]);

export function judgeStatus(status: number): Delivery["kind"] {
  if (status >= 200 && status < 300) return "arrived";
  if (status >= 400 && status < 500 && !ASKS_AGAIN.has(status)) return "refused";
  return "failed";
}

/** `failures` in a row, at least 1; `chance` is in [0, 1). */
export function backOffMs(failures: number, chance: number): number {
  const wholeMs = Math.min(BACK_OFF_MS_MAX, BACK_OFF_MS_MIN * 2 ** Math.min(failures - 1, 30));
  return (wholeMs / 2) * (1 + chance);
}

/** Of a Retry-After header (seconds or a date; RFC 9110, 10.2.3); null: nothing is asked for. */
export function retryAfterMs(header: string | null, wallMs: number): number | null {
  if (header === null) return null;
  const delayMs = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - wallMs;
  if (Number.isNaN(delayMs)) return null;
  return Math.min(DAY_MS, Math.max(0, delayMs));
}

/** The oldest of the least severe: what makes room. `from`: those before it are on their way. */
export function victimOf(ranks: readonly number[], from: number): number {
  let victim = from;
  for (let index = from; index < ranks.length; index += 1) {
    if (ranks[index]! < ranks[victim]!) victim = index;
  }
  return victim;
}
