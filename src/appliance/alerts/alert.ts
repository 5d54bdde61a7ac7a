/**
 * An alert: an event on its way to somebody, with the host that tells it; and the ways on which it
 * goes there.
 *
 *   way       a script (`onEvent`), or a webhook
 *   delivery  arrived | refused: trying again changes nothing | failed: it may pass
 */
import type { Severity } from "../../array/protocol.ts";
import { isoTime } from "../../base/time.ts";
import type { StoredEvent } from "../state/state.ts";

/** As JSON it is what a program reads and a webhook posts: an event, and who tells of it. */
export interface Alert extends Omit<StoredEvent, "atMs"> {
  /** 2026-11-22T13:15:28.250Z */
  readonly at: string;
  readonly host: string;
  readonly version: string;
}

export interface Teller {
  readonly host: string;
  readonly version: string;
}

export function alertOf({ atMs, ...event }: StoredEvent, { host, version }: Teller): Alert {
  return { ...event, at: isoTime(atMs), host, version };
}

/** The least severe first. */
export const SEVERITIES = ["info", "warning", "critical"] as const satisfies readonly Severity[];

export function isAtLeast(severity: Severity, least: Severity): boolean {
  return SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(least);
}

/** `detail`: a sentence about it, without anything that is secret. */
export type Delivery =
  | { readonly kind: "arrived"; readonly detail: string }
  | { readonly kind: "refused"; readonly detail: string }
  | {
      readonly kind: "failed";
      readonly detail: string;
      /** What the receiver asks for; null: nothing. */
      readonly retryAfterMs: number | null;
    };

export interface AlertWay {
  /** In logs, metrics and answers: `onEvent`, `webhook1`. */
  readonly via: string;
  /** Where it leads, as far as that may be told: the path of a URL may be a secret. */
  readonly target: string;
  /** What its alerts in state.db go by: the same in each run, whatever else is configured. */
  readonly key: string;
  readonly least: Severity;
  /** Never rejects, and ends by a deadline of its own. */
  deliver(alert: Alert): Promise<Delivery>;
  /** The daemon stops: what is under way ends as failed. */
  abort(): void;
}
