/** Events: the stream of server-sent ones read, and those picked that somebody asks for. Pure. */
import type { Severity } from "../array/protocol.ts";

export interface PageEvent {
  readonly id: number;
  readonly kind: string;
  readonly severity: Severity;
  readonly array: string;
  readonly drive: string | null;
  readonly job: number | null;
  readonly at: string;
  readonly message: string;
}

export interface EventFilter {
  /** This and what is weightier. */
  readonly severity: Severity;
  /** "": of all. */
  readonly array: string;
  /** Words that all have to be in it. */
  readonly text: string;
}

const WEIGHT: Readonly<Record<Severity, number>> = { info: 0, warning: 1, critical: 2 };
const EVENTS_MAX = 1_000;

/** Reads a stream in whatever pieces it comes. */
export class EventReader {
  private rest = "";

  /** The events that are whole with this piece. */
  push(piece: string): PageEvent[] {
    const blocks = (this.rest + piece).split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.flatMap((block) => {
      const lines = block.split("\n").filter((line) => line.startsWith("data: "));
      if (lines.length === 0) return [];
      const event = parse(lines.map((line) => line.slice("data: ".length)).join("\n"));
      return event === null ? [] : [event];
    });
  }
}

function parse(text: string): PageEvent | null {
  try {
    return JSON.parse(text) as PageEvent;
  } catch {
    return null;
  }
}

/** The newest first; each once, and no more than anybody reads. */
export function withNew(known: readonly PageEvent[], more: readonly PageEvent[]): PageEvent[] {
  const lastId = known[0]?.id ?? 0;
  const fresh = more.filter(({ id }) => id > lastId).toSorted((one, other) => other.id - one.id);
  return [...fresh, ...known].slice(0, EVENTS_MAX);
}

export function filterEvents(events: readonly PageEvent[], filter: EventFilter): PageEvent[] {
  const words = filter.text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  return events.filter((event) => {
    if (WEIGHT[event.severity] < WEIGHT[filter.severity]) return false;
    if (filter.array !== "" && event.array !== filter.array) return false;
    const text = [event.kind, event.array, event.drive ?? "", event.message].join(" ");
    const lower = text.toLowerCase();
    return words.every((word) => lower.includes(word));
  });
}
