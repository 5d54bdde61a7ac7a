/**
 * The NBD server: listeners, connections, exports, and what happens once per turn of the loop.
 *
 * Handlers and completions only mark sessions. The turn hook then sends the replies of all of them,
 * each with one sendmsg for many, lets sessions go on that waited for what this gave back, and so
 * on until nothing is left to do; requests started here still get into the io_submit of the same
 * turn. A session becomes free for a new connection only at the end of a turn, so readiness that
 * was reported for its old socket cannot hit the new one.
 */

import type { ArrayFront } from "../array/front.ts";
import type { CommandError, ExportStatus, NbdAddress, NbdStats } from "../array/protocol.ts";
import { assert, assertShared } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { EAGAIN } from "../base/errno.ts";
import { FreeList } from "../base/free-list.ts";
import type { Log } from "../base/log.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { SlabPool } from "../block/pool.ts";
import type { SocketKernel } from "../reactor/kernel.ts";
import type { EventLoop } from "../reactor/loop.ts";
import { Admission } from "./admission.ts";
import { ExportCatalog } from "./catalog.ts";
import type { ClientRequests } from "./client-requests.ts";
import {
  clientsAgainst,
  clientsAgainstRemoval,
  countStaying,
  dropClients,
} from "./export-clients.ts";
import {
  type ExportSettings,
  ExportTable,
  type NbdExport,
  nameProblem,
  statusOf,
} from "./exports.ts";
import type { ExportObstacle, ExportOffer } from "./handshake.ts";
import { DEFAULT_NBD_LIMITS, type NbdLimits } from "./limits.ts";
import { type Listener, Listeners, newcomerOf } from "./listeners.ts";
import type { Greeted } from "./negotiator.ts";
import type { OutboxTools } from "./outbox.ts";
import { PayloadGate } from "./payload-gate.ts";
import { carveServerMemory, fittingRequestBytes } from "./server-memory.ts";
import { Session, type SessionHost } from "./session.ts";
import { SessionDoor } from "./session-door.ts";
import { StallWatch } from "./stall-watch.ts";

export interface NbdServerOptions {
  readonly loop: EventLoop;
  readonly memory: SharedMemory;
  /** For receive buffers, reply headers and iovecs: see limits.ts for how much. */
  readonly carver: Carver;
  /** Best a row larger than `maxRequestBytes`, or the largest request is lowered to fit. */
  readonly payloadPool: SlabPool;
  readonly log: Log;
  readonly limits?: Partial<NbdLimits>;
  /** What keeps an array (its uuid) from being served; asked only while it is not. */
  readonly obstacleOf?: (array: string) => ExportObstacle;
}

const STOPPED: ExportObstacle = { isPassing: false, reason: "its array is stopped" };
/** New connections per listener and turn. */
const ACCEPTS_PER_TURN = 16;

export class NbdServer implements SessionHost {
  readonly kernel: SocketKernel;
  readonly clock: Clock;
  readonly memory: SharedMemory;
  readonly pool: SlabPool;
  readonly requests: ClientRequests;
  readonly gate: PayloadGate;
  readonly limits: NbdLimits;
  readonly log: Log;
  readonly outboxTools: OutboxTools;
  readonly maxRequestBytes: number;
  readonly catalog: ExportCatalog;

  private readonly loop: EventLoop;
  readonly table: ExportTable;
  private readonly buffersAddress: number;
  private readonly listeners: Listeners;
  private readonly admission: Admission<Session>;
  /** By index; made on first use, then reused. */
  private readonly sessions: Session[] = [];
  private readonly freeSessions: FreeList;
  private readonly dirty: Session[] = [];
  private readonly runnable: Session[] = [];
  private readonly closed: Session[] = [];
  private readonly door: SessionDoor;
  private readonly stalls: StallWatch;
  private readonly resumeByIndex = (index: number) => this.door.resume(this.sessions[index]!);
  private readonly doNothing = () => {};
  private handshakeCount = 0;
  private isTurnSure = false;
  private shutdownTimer = 0;
  private readonly onStopped: (() => void)[] = [];

  constructor(options: NbdServerOptions) {
    const { loop, memory, carver, payloadPool, log } = options;
    this.loop = loop;
    this.kernel = loop.sockets;
    this.clock = loop.timers.clock;
    this.memory = memory;
    this.pool = payloadPool;
    this.log = log;
    const limits = { ...DEFAULT_NBD_LIMITS, ...options.limits };
    const { descriptorLimit } = this.kernel;
    this.admission = new Admission({ limits, descriptorLimit, clock: loop.timers.clock, log });
    this.limits = { ...limits, maxConnections: this.admission.maxConnections };
    this.listeners = new Listeners({ loop, log, onReady: (listener) => this.accept(listener) });
    this.door = new SessionDoor({ kernel: this.kernel, log });
    const { maxConnections } = this.limits;
    const { buffersAddress, requests, ...addresses } = carveServerMemory(carver, this.limits);
    this.buffersAddress = buffersAddress;
    this.requests = requests;
    this.outboxTools = { kernel: this.kernel, memory, requests, ...addresses };
    this.gate = new PayloadGate({ pool: payloadPool, maxConnections });
    const { gate, sessions } = this;
    this.stalls = new StallWatch({ gate, sessions, timers: loop.timers, limits: this.limits });
    this.freeSessions = new FreeList(maxConnections);
    this.maxRequestBytes = fittingRequestBytes(this.limits.maxRequestBytes, payloadPool);
    this.table = new ExportTable({
      onComplete: (tag, status, address) => this.onCompleted(tag, status, address),
      maxRequestBytes: this.maxRequestBytes,
    });
    this.catalog = new ExportCatalog({
      table: this.table,
      maxRequestBytes: this.maxRequestBytes,
      obstacleOf: options.obstacleOf ?? (() => STOPPED),
    });
    loop.onTurn(() => this.onTurn());
  }

  get isStopping(): boolean {
    return this.catalog.isStopping;
  }

  // For the appliance ---------------------------------------------------------------------------

  /** Listens there too. `mode` is that of a Unix socket's file. The answer has the real port. */
  listen(address: NbdAddress, mode: number): Result<NbdAddress, CommandError> {
    if (this.isStopping) return err(stopping());
    return this.listeners.add(address, mode);
  }

  /** Serves a client that was greeted elsewhere. The socket is the server's from now on. */
  adopt(fd: number, greeted: Greeted): Result<undefined, CommandError> {
    const session = this.admit(fd, greeted.peer);
    if (session === undefined) {
      if (this.isStopping) return err(stopping());
      return err({ kind: "busy", code: "too-many-connections", detail: "all are taken" });
    }
    this.door.adopt(session, fd, greeted);
    this.limitHandshake(session);
    return ok();
  }

  /**
   * Adds an export, or changes it. Refused where clients would lose something by that; with `force`
   * those of another array, and those that may not open it any more, are disconnected.
   */
  setExport(settings: ExportSettings): Result<ExportStatus, CommandError> {
    const told = this.foretellExport(settings);
    if (!told.ok) return told;
    const before = this.table.get(settings.name);
    if (before !== undefined && before.array !== settings.array) {
      dropClients(this.sessions, before, "the export is another array's now");
    }
    const entry = this.table.set(settings);
    dropClients(this.sessions, entry, "it may not open this export any more", ({ caller }) => {
      return !entry.access.admits(caller);
    });
    this.settleExports();
    this.reviewWaits();
    return ok(statusOf(entry));
  }

  /** What `setExport` would answer, without doing it. */
  foretellExport(settings: ExportSettings): Result<ExportStatus, CommandError> {
    if (this.isStopping) return err(stopping());
    const { name, array, front, readOnly } = settings;
    const before = this.table.get(name);
    const obstacle = nameProblem(name) ?? clientsAgainst(this.sessions, before, settings);
    if (obstacle !== null) return err(obstacle);
    const connections = countStaying(this.sessions, before, settings);
    return ok({ name, array, readOnly, connections, isServed: front !== null });
  }

  /** Another front for an array that was started again, none (null) while it is stopped. */
  serveArray(array: string, front: ArrayFront | null): void {
    // From the stop on no export gets another front: those that there are go as it ends.
    if (this.isStopping) return;
    this.table.serve(array, front);
    this.settleExports();
    this.reviewWaits();
  }

  /** Forgets an export. While clients are connected only with `force`, which drops them. */
  removeExport(name: string, { force }: { force: boolean }): Result<undefined, CommandError> {
    const told = this.foretellRemoval(name, { force });
    if (!told.ok) return told;
    const entry = told.value;
    dropClients(this.sessions, entry, "the export was removed");
    this.table.remove(entry);
    this.settleExports();
    this.reviewWaits();
    return ok();
  }

  /** The export that `removeExport` would forget, without doing it. */
  foretellRemoval(name: string, { force }: { force: boolean }): Result<NbdExport, CommandError> {
    const entry = this.table.get(name);
    if (entry === undefined) {
      const detail = `there is no export ${name}`;
      return err({ kind: "not-found", code: "export-not-found", detail });
    }
    const obstacle = force ? null : clientsAgainstRemoval(this.sessions, entry);
    return obstacle === null ? ok(entry) : err(obstacle);
  }

  /** Clients that wait for an array are answered where that is there, or no more on its way. */
  reviewWaits(): void {
    for (const session of this.sessions) {
      if (session.waiting === "array") this.markRunnable(session);
    }
    this.ensureTurn();
  }

  exports(): ExportStatus[] {
    return this.table.status();
  }

  stats(): NbdStats {
    return {
      connections: this.connectionCount,
      answers: this.table.answerCounts(),
      payloadPoolBytes: this.pool.totalBytes,
      payloadPoolFreeBytes: this.pool.freeBytes,
    };
  }

  /** Clients with a socket, those that still negotiate among them. */
  get connectionCount(): number {
    let count = 0;
    for (const session of this.sessions) if (session.hasSocket) count += 1;
    return count;
  }

  /** Clients that are gone, of which the array still has requests. */
  get lingeringCount(): number {
    let count = 0;
    for (const session of this.sessions) if (session.phase === "closed") count += 1;
    return count;
  }

  /**
   * Stops accepting, lets requests under way finish and answers later ones ESHUTDOWN, then closes
   * all connections. Resolves when no array has a request of this server any more.
   */
  shutdown(): Promise<void> {
    return new Promise((resolve) => {
      this.onStopped.push(resolve);
      if (this.isStopping) return;
      this.catalog.isStopping = true;
      this.listeners.close();
      // Requests that wait for anything are now refused, which takes neither memory nor a front.
      for (const session of this.sessions) this.markRunnable(session);
      const { timers } = this.loop;
      this.shutdownTimer = timers.scheduleAfter(this.limits.shutdownTimeoutMs, () =>
        this.closeAll("the client did not take its replies before the shutdown"),
      );
      this.ensureTurn();
    });
  }

  // For sessions --------------------------------------------------------------------------------

  openExport(offer: ExportOffer): NbdExport {
    const entry = this.table.get(offer.name);
    assert(entry !== undefined, "an offer is opened in the turn it was made");
    entry.connections += 1;
    return entry;
  }

  leaveExport(nbdExport: NbdExport): void {
    nbdExport.connections -= 1;
  }

  limitWait(session: Session): void {
    // Once per connection: one that names exports one after the other waits no longer in all.
    if (session.waitTimer !== 0) return;
    const { timers } = this.loop;
    const { exportWaitMs, handshakeTimeoutMs } = this.limits;
    session.waitTimer = timers.scheduleAfter(exportWaitMs, () => session.endWait());
    this.endHandshakeAfter(session, exportWaitMs + handshakeTimeoutMs);
  }

  markDirty(session: Session): void {
    if (session.isDirty) return;
    session.isDirty = true;
    this.dirty.push(session);
  }

  markRunnable(session: Session): void {
    if (session.isRunnable) return;
    session.isRunnable = true;
    this.runnable.push(session);
  }

  markClosed(session: Session): void {
    this.closed.push(session);
  }

  // Connections ---------------------------------------------------------------------------------

  private accept(listener: Listener): void {
    for (let count = 0; count < ACCEPTS_PER_TURN; count += 1) {
      // The place is free at the end of the turn, and the listener is then still ready.
      if (!this.hasFreeSession && (count > 0 || this.makeRoom())) return;
      const fd = this.kernel.accept(listener.fd);
      if (fd === -EAGAIN) return;
      if (fd < 0) {
        this.listeners.rest(listener, -fd);
        return;
      }
      const newcomer = newcomerOf(listener, this.kernel, fd);
      const session = this.admit(fd, newcomer.peer);
      if (session === undefined) continue;
      this.door.begin(session, fd, newcomer);
      this.limitHandshake(session);
      if (this.admission.hasTooManySilent(this.sessions)) this.makeRoom();
    }
  }

  /** A place for the client; without one its socket is closed. */
  private admit(fd: number, peer: string): Session | undefined {
    const isWelcome = this.admission.isWelcome(peer, this.sessions);
    const session = isWelcome && !this.isStopping ? this.takeSession() : undefined;
    if (session !== undefined) return session;
    this.kernel.close(fd);
    if (this.isStopping) return undefined;
    this.admission.noteRefusal(isWelcome ? "too many" : "too many of this peer", peer);
    return undefined;
  }

  private limitHandshake(session: Session): void {
    this.handshakeCount += 1;
    session.serial = this.handshakeCount;
    this.loop.timers.cancel(session.waitTimer);
    session.waitTimer = 0;
    this.endHandshakeAfter(session, this.limits.handshakeTimeoutMs);
  }

  private endHandshakeAfter(session: Session, delayMs: number): void {
    const { timers } = this.loop;
    timers.cancel(session.handshakeTimer);
    session.handshakeTimer = timers.scheduleAfter(delayMs, () => {
      if (session.isNegotiating) session.close("the handshake took too long");
    });
  }

  private get hasFreeSession(): boolean {
    return this.freeSessions.available > 0;
  }

  /** Silent clients must not keep others out until their time is over. False: there is none. */
  private makeRoom(): boolean {
    const victim = this.admission.victim(this.sessions);
    victim?.close("it was still in its handshake, and another client came");
    return victim !== undefined;
  }

  private takeSession(): Session | undefined {
    const index = this.freeSessions.take();
    if (index < 0) return undefined;
    if (index < this.sessions.length) return this.sessions[index];
    assertShared(index === this.sessions.length, "sessions are made one after the other");
    const bufferAddress = this.buffersAddress + index * this.limits.receiveBufferBytes;
    let session: Session | undefined;
    const token = this.loop.addHandler((ready) => {
      this.isTurnSure = true;
      this.door.onReady(session!, ready);
    });
    session = new Session({ host: this, index, token, bufferAddress });
    this.sessions.push(session);
    return session;
  }

  private onCompleted(slot: number, status: number, address: number): void {
    this.ensureTurn();
    if (address !== 0) this.requests.moveRun(slot, address);
    this.door.onCompleted(this.sessions[this.requests.connectionOf(slot)]!, slot, status);
  }

  private closeAll(reason: string | null): void {
    for (const session of this.sessions) session.close(reason);
  }

  /** What is marked outside of a turn (from async code) must not wait for the next event. */
  private ensureTurn(): void {
    if (this.isTurnSure) return;
    this.isTurnSure = true;
    this.loop.timers.scheduleAfter(0, this.doNothing);
  }

  // Once per turn -------------------------------------------------------------------------------

  private onTurn(): void {
    this.isTurnSure = true;
    // Ends: what is resumed reads no socket, only what its buffer holds.
    for (;;) {
      this.flushDirty();
      this.settleExports();
      this.resumeRunnable();
      if (this.gate.isPumpDue) this.gate.pump(this.resumeByIndex);
      if (this.dirty.length === 0 && this.runnable.length === 0 && !this.gate.isPumpDue) break;
    }
    this.releaseClosed();
    this.stalls.turn();
    if (this.isStopping) this.goOnStopping();
    this.isTurnSure = false;
  }

  private flushDirty(): void {
    for (let index = 0; index < this.dirty.length; index += 1) {
      const session = this.dirty[index]!;
      session.isDirty = false;
      this.door.flush(session);
    }
    this.dirty.length = 0;
  }

  private resumeRunnable(): void {
    const count = this.runnable.length;
    for (let index = 0; index < count; index += 1) {
      const session = this.runnable[index]!;
      session.isRunnable = false;
      this.door.resume(session);
    }
    // Those that a resumed session marked come behind `count`: the next round is theirs.
    this.runnable.copyWithin(0, count);
    this.runnable.length -= count;
  }

  private releaseClosed(): void {
    for (const session of this.closed) {
      this.door.release(session);
      this.freeSessions.give(session.index);
    }
    this.closed.length = 0;
  }

  private settleExports(): void {
    if (this.table.isSettled || !this.table.settle()) return;
    for (const session of this.sessions) {
      if (session.waiting === "export") this.markRunnable(session);
    }
  }

  // Shutdown ------------------------------------------------------------------------------------

  private goOnStopping(): void {
    // Nobody waits for one that met a defect: it may have lost count.
    const counted = this.sessions.filter((session) => !this.door.isDefective(session));
    if (counted.every((session) => session.isIdle)) {
      this.closeAll(null);
      this.releaseClosed();
      this.table.retireAll();
      this.table.settle();
    }
    if (!this.table.isSettled || this.connectionCount > 0) return;
    if (counted.some((session) => session.phase !== "free")) return;
    this.loop.timers.cancel(this.shutdownTimer);
    for (const resolve of this.onStopped) resolve();
    this.onStopped.length = 0;
  }
}

function stopping(): CommandError {
  return { kind: "stopping", code: "stopping", detail: "the server is stopping" };
}
