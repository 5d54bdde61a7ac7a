/**
 * What the service manager is told (sd_notify(3)): READY once arrays are assembled and sockets
 * listen, STATUS in one line, WATCHDOG only while the reactor answers, STOPPING at the end. While
 * the start or the stop waits for drives the manager is asked for more time, again and again.
 */
import type { ReactorClient } from "./reactor-client.ts";

/** Sends one datagram to the manager; a no-op where there is none. */
export type NotifySend = (text: string) => void;

export interface SystemdOptions {
  readonly send: NotifySend;
  /** WATCHDOG_USEC, or undefined where the unit asks for none. */
  readonly watchdogMicroseconds: number | undefined;
}

const EXTENSION_MS = 30_000;

export class Systemd {
  private readonly send: NotifySend;
  private readonly watchdogMs: number | null;
  private timer: ReturnType<typeof setInterval> | null = null;
  private isProbing = false;
  private extender: ReturnType<typeof setInterval> | null = null;

  constructor({ send, watchdogMicroseconds }: SystemdOptions) {
    this.send = send;
    const isAsked = watchdogMicroseconds !== undefined && watchdogMicroseconds > 0;
    this.watchdogMs = isAsked ? watchdogMicroseconds / 1_000 : null;
  }

  starting(status: string): void {
    this.askForTime(`STATUS=${status}`);
  }

  ready(status: string): void {
    this.endExtending();
    this.send(`READY=1\nSTATUS=${status}`);
  }

  status(text: string): void {
    this.send(`STATUS=${text}`);
  }

  stopping(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    this.askForTime("STOPPING=1\nSTATUS=draining");
  }

  /** The process ends now. */
  stopped(): void {
    this.endExtending();
  }

  /** Lasts until the phase ends: the manager gives up on a process that no longer asks. */
  private askForTime(first: string): void {
    this.endExtending();
    const extension = `EXTEND_TIMEOUT_USEC=${EXTENSION_MS * 1_000}`;
    this.send(`${first}\n${extension}`);
    this.extender = setInterval(() => this.send(extension), EXTENSION_MS / 3);
  }

  private endExtending(): void {
    if (this.extender !== null) clearInterval(this.extender);
    this.extender = null;
  }

  /** Feeds the watchdog at half its period, each time only after an answer from the reactor. */
  watch(client: ReactorClient): void {
    if (this.watchdogMs === null) return;
    this.timer = setInterval(() => void this.probe(client), this.watchdogMs / 2);
  }

  private async probe(client: ReactorClient): Promise<void> {
    // A reactor that does not answer must not be asked again and again: the first answer counts.
    if (this.isProbing) return;
    this.isProbing = true;
    const answer = await client.call({ kind: "list-exports" });
    this.isProbing = false;
    if (answer.ok && this.timer !== null) this.send("WATCHDOG=1");
  }
}
