/**
 * The life of a connection, as one table: what it is reading, and what each event makes of that.
 *
 *   free -> client-flags -> option <-> option-data | option-skip     (adopted: free -> option)
 *                                        | export-opened
 *                                        v
 *                           request <-> payload | payload-skip
 *
 * From every phase that reads, `finish` leads to `draining` (no more is read; what is under way is
 * answered) and `close` to `closed` (no socket; requests may still be in the array). A closed
 * connection is `free` again when the array has completed the last of them, because the drives may
 * write into its buffers until then.
 */

export type Phase =
  | "free"
  | "client-flags"
  | "option"
  | "option-data"
  | "option-skip"
  | "request"
  | "payload"
  | "payload-skip"
  | "draining"
  | "closed";

export type SessionEvent =
  | "accepted"
  | "adopted"
  | "flags-read"
  | "option-announced"
  | "option-refused"
  | "option-answered"
  | "export-opened"
  | "write-accepted"
  | "write-refused"
  | "payload-ended"
  | "finish"
  | "close"
  | "released";

type Row = Readonly<Partial<Record<SessionEvent, Phase>>>;

const END = { finish: "draining", close: "closed" } as const;

export const TRANSITIONS: Readonly<Record<Phase, Row>> = {
  free: { accepted: "client-flags", adopted: "option" },
  "client-flags": { "flags-read": "option", ...END },
  option: { "option-announced": "option-data", "option-refused": "option-skip", ...END },
  "option-data": { "option-answered": "option", "export-opened": "request", ...END },
  "option-skip": { "option-answered": "option", ...END },
  request: { "write-accepted": "payload", "write-refused": "payload-skip", ...END },
  payload: { "payload-ended": "request", ...END },
  "payload-skip": { "payload-ended": "request", ...END },
  draining: { close: "closed" },
  closed: { released: "free" },
};

/** The phase after `event`, or null where the event cannot happen. */
export function nextPhase(phase: Phase, event: SessionEvent): Phase | null {
  return TRANSITIONS[phase][event] ?? null;
}

export function isNegotiating(phase: Phase): boolean {
  switch (phase) {
    case "client-flags":
    case "option":
    case "option-data":
    case "option-skip":
      return true;
    default:
      return false;
  }
}

/** Whether the socket of a connection in this phase is read at all. */
export function isReading(phase: Phase): boolean {
  return phase !== "free" && phase !== "draining" && phase !== "closed";
}

export function hasSocket(phase: Phase): boolean {
  return phase !== "free" && phase !== "closed";
}
