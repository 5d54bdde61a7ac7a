/**
 * One connection: its socket, its receive buffer and its phase (session-state.ts).
 *
 * Received bytes wait in the receive buffer. A request that cannot be started now (own
 * limit, dry pool, an array front that is being replaced) stays there undecoded, `waiting` says
 * why, and the socket is not read: the client feels the back-pressure, and nothing about the
 * request has to be remembered. The payload of a write goes straight to its place in the pool run,
 * except for what came in one piece with its header.
 *
 * Readiness is level-triggered: what is left in the socket is reported again.
 */

import type { NbdCaller } from "../array/protocol.ts";
import { assert, unreachable } from "../base/assert.ts";
import { EAGAIN, EINTR } from "../base/errno.ts";
import type { Log } from "../base/log.ts";
import { KIB } from "../base/units.ts";
import { Ready, type SocketKernel } from "../reactor/kernel.ts";
import type { NbdExport } from "./exports.ts";
import type { ExportOffer, OptionAnswer } from "./handshake.ts";
import { type Greeted, Negotiator, type Newcomer } from "./negotiator.ts";
import { Outbox, type OutboxTools } from "./outbox.ts";
import { ReceiveBuffer } from "./receive-buffer.ts";
import {
  hasSocket,
  isNegotiating,
  isReading,
  nextPhase,
  type Phase,
  type SessionEvent,
} from "./session-state.ts";
import { Transmission, type TransmissionTools } from "./transmission.ts";
import { encodeGreeting, REQUEST_BYTES } from "./wire-format.ts";

/** What sessions share. */
export interface SessionHost extends TransmissionTools {
  readonly kernel: SocketKernel;
  readonly log: Log;
  readonly outboxTools: OutboxTools;
  /** The export that an offer stands for. */
  openExport(offer: ExportOffer): NbdExport;
  /** A connection of the export has ended. */
  leaveExport(nbdExport: NbdExport): void;
  /** The client waits for an array that is on its way. */
  limitWait(session: Session): void;
  /** The session has something to send. */
  markDirty(session: Session): void;
  /** What the session waited for has come. */
  markRunnable(session: Session): void;
  /** The session has neither a socket nor requests in the array. */
  markClosed(session: Session): void;
}

/** Why a session does not go on with what it has received. */
export type Waiting = "nothing" | "own-limit" | "payload" | "export" | "array" | "output";

/** Below this a payload takes the way through the buffer: one recv then brings several requests. */
const MIN_DIRECT_BYTES = 8 * KIB;
const NEWCOMER = { isSecure: false, isWithoutZeroes: false } as const;

export class Session {
  readonly index: number;
  readonly token: number;
  readonly transmission: Transmission;
  phase: Phase = "free";
  waiting: Waiting = "nothing";
  /** The server's marks: the lists it is in, its timer, the place in which it came, its sample. */
  isDirty = false;
  isRunnable = false;
  handshakeTimer = 0;
  waitTimer = 0;
  serial = 0;
  /** Who the client is: see SocketKernel. */
  peer = "";
  sampledBytes = 0;
  wasHolding = false;

  private readonly host: SessionHost;
  private readonly outbox: Outbox;
  private readonly buffer: ReceiveBuffer;
  private readonly negotiator: Negotiator;
  private fd = -1;
  private interest = 0;
  /** Bytes of payload that are still to come. */
  private leftBytes = 0;
  private receivedBytes = 0;

  constructor(options: { host: SessionHost; index: number; token: number; bufferAddress: number }) {
    const { host, index, token, bufferAddress } = options;
    this.host = host;
    this.index = index;
    this.token = token;
    const { memory, limits } = host;
    const bytes = limits.receiveBufferBytes;
    this.buffer = new ReceiveBuffer({ memory, address: bufferAddress, bytes });
    const { catalog } = host;
    this.negotiator = new Negotiator({ memory, buffer: this.buffer, limits, catalog });
    this.outbox = new Outbox(host.outboxTools, (slot) => this.transmission.release(slot));
    this.transmission = new Transmission({
      tools: host,
      connection: index,
      outbox: this.outbox,
      onRoom: () => {
        if (this.waiting === "own-limit") host.markRunnable(this);
      },
    });
  }

  // Life ----------------------------------------------------------------------------------------

  /** Takes over a connected socket and greets the client. */
  begin(fd: number, newcomer: Newcomer): void {
    this.enter("accepted");
    this.takeOver(fd, { ...NEWCOMER, ...newcomer });
    this.outbox.pushHandshake(encodeGreeting());
    this.host.markDirty(this);
  }

  /** Takes over the socket of a client that was greeted elsewhere: its options come next. */
  adopt(fd: number, greeted: Greeted): void {
    this.enter("adopted");
    this.takeOver(fd, greeted);
  }

  private takeOver(fd: number, greeted: Greeted): void {
    this.fd = fd;
    this.peer = greeted.peer;
    this.negotiator.begin(greeted);
    this.interest = Ready.read;
    this.host.kernel.watch(fd, this.token, this.interest);
  }

  onReady(ready: number): void {
    if (!hasSocket(this.phase)) return;
    if ((ready & Ready.write) !== 0) this.host.markDirty(this);
    const isHungUp = (ready & Ready.hangUp) !== 0;
    if (!this.canReceive()) {
      // Nothing more can be sent, and what is unread can never be answered.
      if (isHungUp) this.close("the client hung up");
      else this.updateInterest();
      return;
    }
    if (isHungUp || (ready & Ready.read) !== 0) this.receive();
  }

  /** Goes on with what is in the buffer, after a wait. */
  resume(): void {
    if (!isReading(this.phase)) return;
    this.stopWaiting();
    this.advance();
    this.updateInterest();
  }

  /** The client has waited for an array for as long as it may: now it is told. */
  endWait(): void {
    this.negotiator.negotiation.hasWaited = true;
    if (this.waiting === "array") this.host.markRunnable(this);
  }

  /** Sends what is queued; ends a connection that has nothing left to do. */
  flush(): void {
    if (!hasSocket(this.phase)) return;
    if (this.outbox.flush(this.fd) === "lost") {
      this.close("the client is gone");
      return;
    }
    if (this.waiting === "output" && !this.outbox.hasHandshake) this.host.markRunnable(this);
    if (this.phase === "draining" && this.isIdle) {
      this.close(null);
      return;
    }
    this.updateInterest();
  }

  /** The array has completed the request in `slot`. */
  onCompleted(slot: number, status: number): void {
    const isGone = this.phase === "closed";
    this.transmission.complete(slot, status, isGone);
    if (!isGone) this.host.markDirty(this);
    else if (this.transmission.busySlots === 0) this.host.markClosed(this);
  }

  get nbdExport(): NbdExport | null {
    return this.transmission.nbdExport;
  }

  /** As exports judge the client; null: one of a Unix socket. */
  get caller(): NbdCaller | null {
    return this.negotiator.negotiation.caller;
  }

  /** By what was negotiated, whatever has become of the export since. */
  get mayWrite(): boolean {
    return !this.transmission.isReadOnly;
  }

  /** Neither requests in the array nor bytes to send. */
  get isIdle(): boolean {
    return this.transmission.arraySlots === 0 && this.outbox.isEmpty;
  }

  get isNegotiating(): boolean {
    return isNegotiating(this.phase);
  }

  /** In its handshake, and not waiting for an array: it may have nothing to ask for. */
  get isSilent(): boolean {
    return this.isNegotiating && this.waiting !== "array";
  }

  get hasSocket(): boolean {
    return hasSocket(this.phase);
  }

  /** Payload memory is held up by this client: it does not read, or does not send the rest. */
  get isHolding(): boolean {
    if (this.transmission.heldBytes === 0) return false;
    return this.outbox.isBlocked || (this.phase === "payload" && this.leftBytes > 0);
  }

  /** Bytes received and sent since the connection began. */
  get movedBytes(): number {
    return this.receivedBytes + this.outbox.movedBytes;
  }

  /** Reads no more; what is under way is answered, then the connection ends. */
  private finish(): void {
    this.transmission.dropPayload();
    this.enter("finish");
    this.stopWaiting();
    this.host.markDirty(this);
  }

  /** Ends the socket now. Buffers that the array still uses are freed as it completes. */
  close(reason: string | null): void {
    if (!hasSocket(this.phase)) return;
    this.enter("close");
    this.stopWaiting();
    this.host.kernel.unwatch(this.fd);
    this.host.kernel.close(this.fd);
    this.fd = -1;
    this.transmission.dropPayload();
    this.outbox.reset();
    if (this.nbdExport !== null) this.host.leaveExport(this.nbdExport);
    if (reason !== null) {
      const name = this.nbdExport?.name ?? "";
      this.host.log.write("info", "nbd connection dropped", { reason, export: name });
    }
    if (this.transmission.busySlots === 0) this.host.markClosed(this);
  }

  /** Makes the session ready for another connection. */
  release(): void {
    this.enter("released");
    this.transmission.reset();
    this.buffer.clear();
    this.leftBytes = 0;
    this.receivedBytes = 0;
    this.sampledBytes = 0;
    this.wasHolding = false;
  }

  private enter(event: SessionEvent): void {
    const phase = nextPhase(this.phase, event);
    assert(phase !== null, "the table of transitions has the event");
    this.phase = phase;
  }

  private stopWaiting(): void {
    if (this.waiting === "payload") this.host.gate.leave(this.index);
    this.waiting = "nothing";
  }

  private canAdvance(): boolean {
    return isReading(this.phase) && this.waiting === "nothing";
  }

  private canReceive(): boolean {
    if (this.canAdvance()) return true;
    // Whoever waits for an array may leave, and only a read tells of an end of the stream.
    return this.waiting === "array" && this.buffer.usedBytes < this.buffer.capacityBytes;
  }

  private updateInterest(): void {
    if (!hasSocket(this.phase)) return;
    const readBit = this.canReceive() ? Ready.read : 0;
    const interest = readBit | (this.outbox.isBlocked ? Ready.write : 0);
    if (interest === this.interest) return;
    this.interest = interest;
    this.host.kernel.watch(this.fd, this.token, interest);
  }

  // Receiving -----------------------------------------------------------------------------------

  private receive(): void {
    let budgetBytes = this.host.limits.receiveBudgetBytes;
    while (budgetBytes > 0 && this.canReceive()) {
      const isDirect =
        this.phase === "payload" &&
        this.buffer.usedBytes === 0 &&
        this.leftBytes >= MIN_DIRECT_BYTES;
      if (!isDirect) this.buffer.compact();
      const address = isDirect
        ? this.transmission.payloadAddress(this.leftBytes)
        : this.buffer.writeAddress;
      const wanted = isDirect ? this.leftBytes : this.buffer.roomBytes;
      const received = this.host.kernel.recv(this.fd, address, wanted);
      if (received === -EAGAIN || received === -EINTR) return;
      if (received === 0) {
        this.finish();
        return;
      }
      if (received < 0) {
        this.close("the connection broke");
        return;
      }
      budgetBytes -= received;
      this.receivedBytes += received;
      if (isDirect) this.leftBytes -= received;
      else this.buffer.add(received);
      this.advance();
      // A short answer emptied the socket; asking again would only cost the call.
      if (received < wanted) return;
    }
  }

  /** Takes from the buffer what is complete, until something is missing or must wait. */
  private advance(): void {
    while (this.canAdvance() && this.step());
  }

  /** One step of the phase; false when it needs more bytes or cannot go on. */
  private step(): boolean {
    switch (this.phase) {
      case "client-flags":
      case "option":
      case "option-data":
      case "option-skip":
        return this.negotiate();
      case "request":
        return this.readRequest();
      case "payload":
        return this.readPayload();
      case "payload-skip":
        return this.skipPayload();
      case "free":
      case "draining":
      case "closed":
        return false;
      default:
        return unreachable(this.phase);
    }
  }

  /** Drops up to `leftBytes` from the buffer; true when none are left to come. */
  private dropLeft(): boolean {
    const bytes = Math.min(this.leftBytes, this.buffer.usedBytes);
    this.buffer.consume(bytes);
    this.leftBytes -= bytes;
    return this.leftBytes === 0;
  }

  private violate(reason: string): boolean {
    this.close(reason);
    return false;
  }

  private wait(reason: Waiting): boolean {
    this.waiting = reason;
    return false;
  }

  // Negotiation ---------------------------------------------------------------------------------

  private negotiate(): boolean {
    // One answer at a time, so that what is queued stays bounded.
    const step = this.negotiator.step(this.phase, !this.outbox.hasHandshake);
    switch (step.kind) {
      case "more":
        return false;
      case "output":
        return this.wait("output");
      case "await-array":
        this.host.limitWait(this);
        return this.wait("array");
      case "violation":
        return this.violate(step.reason);
      case "passed":
        this.enter(step.event);
        return true;
      case "answered":
        this.applyOutcome(step.outcome);
        return true;
      default:
        return unreachable(step);
    }
  }

  private applyOutcome(outcome: OptionAnswer): void {
    this.outbox.pushHandshake(outcome.reply);
    this.host.markDirty(this);
    switch (outcome.kind) {
      case "continue":
        this.enter("option-answered");
        return;
      case "close":
        this.finish();
        return;
      case "open":
        this.transmission.open({
          nbdExport: this.host.openExport(outcome.offer),
          offer: outcome.offer,
          isStructured: this.negotiator.negotiation.isStructured,
          hasAllocationContext: outcome.hasAllocationContext,
        });
        this.enter("export-opened");
        return;
      default:
        unreachable(outcome);
    }
  }

  // Requests ------------------------------------------------------------------------------------

  private readRequest(): boolean {
    if (this.buffer.usedBytes < REQUEST_BYTES) return false;
    const outcome = this.transmission.start(this.buffer.readAddress);
    switch (outcome) {
      case "started":
        this.buffer.consume(REQUEST_BYTES);
        if (!this.outbox.isEmpty) this.host.markDirty(this);
        return true;
      case "payload-follows":
        this.buffer.consume(REQUEST_BYTES);
        this.leftBytes = this.transmission.payloadBytes;
        this.enter("write-accepted");
        return true;
      case "payload-refused":
        this.buffer.consume(REQUEST_BYTES);
        this.leftBytes = this.transmission.payloadBytes;
        this.enter("write-refused");
        return true;
      case "disconnect":
        this.buffer.consume(REQUEST_BYTES);
        this.finish();
        return false;
      case "wait-own-limit":
        return this.wait("own-limit");
      case "wait-payload":
        return this.wait("payload");
      case "wait-export":
        return this.wait("export");
      case "bad-magic":
        return this.violate("bad request magic");
      case "payload-too-large":
        return this.violate("a write far above the largest size");
      default:
        return unreachable(outcome);
    }
  }

  private readPayload(): boolean {
    const bytes = Math.min(this.leftBytes, this.buffer.usedBytes);
    if (bytes > 0) {
      const to = this.transmission.payloadAddress(this.leftBytes);
      const from = this.buffer.readAddress;
      this.host.memory.bytes.copyWithin(to, from, from + bytes);
      this.buffer.consume(bytes);
      this.leftBytes -= bytes;
    }
    if (this.leftBytes > 0) return false;
    if (!this.transmission.finishPayload()) return this.wait("export");
    if (!this.outbox.isEmpty) this.host.markDirty(this);
    this.enter("payload-ended");
    return true;
  }

  private skipPayload(): boolean {
    if (!this.dropLeft()) return false;
    this.transmission.finishRefused();
    this.host.markDirty(this);
    this.enter("payload-ended");
    return true;
  }
}
