/**
 * The doors into sessions: the server calls a session through these alone. What is thrown behind
 * one ends that connection, and nobody else's; the log gets the stack. What is about something that
 * all sessions share (slots, payload memory: `assertShared`) passes, and ends the process.
 */
import { SharedAssertionError } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import type { SocketKernel } from "../reactor/kernel.ts";
import type { Greeted, Newcomer } from "./negotiator.ts";
import type { Session } from "./session.ts";

export class SessionDoor {
  private readonly kernel: SocketKernel;
  private readonly log: Log;
  /** Sessions that may have lost count of what they hold: nobody waits for them. */
  private readonly defective = new Set<Session>();

  constructor({ kernel, log }: { kernel: SocketKernel; log: Log }) {
    this.kernel = kernel;
    this.log = log;
  }

  isDefective(session: Session): boolean {
    return this.defective.has(session);
  }

  begin(session: Session, fd: number, newcomer: Newcomer): void {
    try {
      session.begin(fd, newcomer);
    } catch (error) {
      this.letGo(session, fd);
      this.contain(session, error);
    }
  }

  adopt(session: Session, fd: number, greeted: Greeted): void {
    try {
      session.adopt(fd, greeted);
    } catch (error) {
      this.letGo(session, fd);
      this.contain(session, error);
    }
  }

  onReady(session: Session, ready: number): void {
    try {
      session.onReady(ready);
    } catch (error) {
      this.contain(session, error);
    }
  }

  onCompleted(session: Session, slot: number, status: number): void {
    try {
      session.onCompleted(slot, status);
    } catch (error) {
      session.transmission.forget(slot);
      this.contain(session, error);
    }
  }

  flush(session: Session): void {
    try {
      session.flush();
    } catch (error) {
      this.contain(session, error);
    }
  }

  resume(session: Session): void {
    try {
      session.resume();
    } catch (error) {
      this.contain(session, error);
    }
  }

  /** It has given back everything, and is free for another connection. */
  release(session: Session): void {
    session.release();
    this.defective.delete(session);
  }

  /** A session that has not come so far as to have the socket cannot close it. */
  private letGo(session: Session, fd: number): void {
    if (!session.hasSocket) this.kernel.close(fd);
  }

  /** What it has in the array goes its way, and is given back as it ends. */
  private contain(session: Session, error: unknown): void {
    if (error instanceof SharedAssertionError) throw error;
    this.defective.add(session);
    this.log.write("error", "a defect ended an nbd connection", {
      export: session.nbdExport?.name ?? "",
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    session.close(null);
  }
}
