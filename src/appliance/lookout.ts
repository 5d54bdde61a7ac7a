/**
 * Looks at what is so when something has happened that may have changed it: once for all that
 * happens within a moment, one look after the other, from the end of the start on.
 */
import type { Alarms } from "./state/alarms.ts";

/** What happens is looked at once for all events of so long. */
const LOOK_MS = 50;
/** What was in the way may have passed, and nobody tells when. */
export const RETRY_MS = 5_000;

export class Lookout {
  private readonly alarms: Alarms;
  private readonly lookOnce: () => Promise<void>;
  private looking: Promise<void> = Promise.resolve();
  private isDue = false;
  private isLaterDue = false;
  /** Before all drives have been looked at, a start is still under way. */
  private phase: "starting" | "looking" | "stopped" = "starting";

  constructor(alarms: Alarms, lookOnce: () => Promise<void>) {
    this.alarms = alarms;
    this.lookOnce = lookOnce;
  }

  get isLooking(): boolean {
    return this.phase === "looking";
  }

  /** All drives that answer are there: from now on it looks. */
  start(): void {
    if (this.phase !== "starting") return;
    this.phase = "looking";
    this.soon();
  }

  stop(): void {
    this.phase = "stopped";
  }

  soon(): void {
    if (!this.isLooking || this.isDue) return;
    this.isDue = true;
    this.alarms.after(LOOK_MS, () => {
      this.isDue = false;
      void this.now();
    });
  }

  later(): void {
    if (!this.isLooking || this.isLaterDue) return;
    this.isLaterDue = true;
    this.alarms.after(RETRY_MS, () => {
      this.isLaterDue = false;
      this.soon();
    });
  }

  /** Resolves behind the looks before it, and its own. */
  now(): Promise<void> {
    this.looking = this.looking.then(() => (this.isLooking ? this.lookOnce() : undefined));
    return this.looking;
  }
}
