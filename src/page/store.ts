/**
 * What the page knows, looked at once a second, and the events as they come.
 *
 *   asking ──token──► looking ──nobody answers──► silent ──answer──► looking
 *      ▲────────────────401───────┘
 *
 * A look follows an event and an action at once. A page that nobody looks at looks seldom.
 */
import type { StatusDocument } from "../appliance/status-document.ts";
import { followTickets, getStatus, mayCall, openEvents, setToken } from "./api.ts";
import { EventReader, type PageEvent, withNew } from "./events.ts";
import { RateHistory } from "./rates.ts";

export interface Known {
  /** "asking": a token is needed; "silent": nobody answers, and what is shown is old. */
  readonly contact: "connecting" | "asking" | "looking" | "silent";
  /** Why the last token was not taken; null: none was tried. */
  readonly refusal: string | null;
  readonly status: StatusDocument | null;
  readonly events: readonly PageEvent[];
  /** What was done last, for a moment. */
  readonly notice: string | null;
}

const LOOK_MS = 1_000;
const HIDDEN_LOOK_MS = 10_000;
const NOTICE_MS = 8_000;
const EVENTS_BACK = 300;

export class Store {
  readonly history = new RateHistory();
  known: Known = {
    ...{ contact: "connecting", refusal: null, status: null, events: [], notice: null },
  };
  private readonly listeners = new Set<() => void>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private noticeTimer: ReturnType<typeof setTimeout> | undefined;
  private isLooking = false;
  private isStale = false;
  private isReading = false;

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async start(): Promise<void> {
    document.addEventListener("visibilitychange", () => {
      if (this.known.contact === "looking" || this.known.contact === "silent") this.look();
    });
    followTickets();
    if (await mayCall()) this.look();
    else this.set({ contact: "asking" });
  }

  enter(token: string): void {
    setToken(token);
    this.set({ contact: "connecting", refusal: null });
    this.look();
  }

  leave(): void {
    setToken(null);
    location.reload();
  }

  say(notice: string): void {
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => this.set({ notice: null }), NOTICE_MS);
    this.set({ notice });
  }

  /** Looks now, or once more where a look is under way. */
  look(): void {
    if (this.isLooking) {
      this.isStale = true;
      return;
    }
    clearTimeout(this.timer);
    void this.lookOnce();
  }

  private async lookOnce(): Promise<void> {
    this.isLooking = true;
    this.isStale = false;
    const answer = await getStatus();
    this.isLooking = false;
    if (answer.ok) {
      this.history.look(answer.value.arrays, performance.timeOrigin + performance.now());
      this.set({ contact: "looking", status: answer.value });
      if (!this.isReading) void this.readEvents(answer.value.lastEventId);
    } else if (answer.problem.status === 401) {
      setToken(null);
      this.set({ contact: "asking", refusal: "This token is not known, or not any more." });
      return;
    } else {
      this.set({ contact: "silent" });
    }
    const pause = document.hidden ? HIDDEN_LOOK_MS : LOOK_MS;
    this.timer = setTimeout(() => this.look(), this.isStale ? 0 : pause);
  }

  /** Until the stream ends; the next look begins another one behind what is known. */
  private async readEvents(lastId: number): Promise<void> {
    this.isReading = true;
    const known = this.known.events[0]?.id ?? Math.max(0, lastId - EVENTS_BACK);
    const stream = await openEvents(known, new AbortController().signal);
    const reader = new EventReader();
    try {
      for (;;) {
        const piece = await stream?.read();
        if (piece === undefined || piece.done) break;
        const more = reader.push(piece.value);
        if (more.length === 0) continue;
        this.set({ events: withNew(this.known.events, more) });
        this.look();
      }
    } catch {
      // The connection is gone: the next look says more.
    }
    this.isReading = false;
  }

  private set(change: Partial<Known>): void {
    this.known = { ...this.known, ...change };
    for (const listener of this.listeners) listener();
  }
}
