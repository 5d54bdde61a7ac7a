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

import { assert, unreachable } from "../base/assert.ts";
import { EAGAIN, EINTR } from "../base/errno.ts";
import type { Log } from "../base/log.ts";
import { KIB } from "../base/units.ts";
import { Ready, type SocketKernel } from "../reactor/kernel.ts";
import type { NbdExport } from "./exports.ts";
import {
  acceptClientFlags,
  answerOption,
  answerOversizedOption,
  countOption,
  createNegotiation,
  type ExportOffer,
  type Negotiation,
  type OptionOutcome,
} from "./handshake.ts";
import { Outbox, type OutboxTools } from "./outbox.ts";
import {
  CLIENT_FLAGS_BYTES,
  encodeGreeting,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  REQUEST_BYTES,
} from "./protocol.ts";
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

/** What sessions share. */
export interface SessionHost extends TransmissionTools {
  readonly kernel: SocketKernel;
  readonly log: Log;
  readonly outboxTools: OutboxTools;
  /** The export that an offer stands for. */
  openExport(offer: ExportOffer): NbdExport;
  /** A connection of the export has ended. */
  leaveExport(nbdExport: NbdExport): void;
  /** The session has something to send. */
  markDirty(session: Session): void;
  /** What the session waited for has come. */
  markRunnable(session: Session): void;
  /** The session has neither a socket nor requests in the array. */
  markClosed(session: Session): void;
}

/** What a client and the part of the server that greeted it have agreed on. */
export interface Greeted {
  /** The client's side of the socket is behind TLS. */
  readonly isSecure: boolean;
  readonly isWithoutZeroes: boolean;
}

/** Why a session does not go on reading. */
export type Waiting = "nothing" | "own-limit" | "payload" | "export" | "output";

/** Below this a payload takes the way through the buffer: one recv then brings several requests. */
const MIN_DIRECT_BYTES = 8 * KIB;
/** Option data are kept up to this share of the buffer; longer ones are dropped and refused. */
const OPTION_DATA_SHARE = 2;

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
  serial = 0;
  sampledBytes = 0;
  wasHolding = false;

  private readonly host: SessionHost;
  private readonly outbox: Outbox;
  private readonly buffer: ReceiveBuffer;
  private negotiation: Negotiation = createNegotiation();
  private fd = -1;
  private interest = 0;
  private option = 0;
  /** Bytes of option data or payload that are still to come. */
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
  begin(fd: number): void {
    this.enter("accepted");
    this.takeOver(fd);
    this.outbox.pushHandshake(encodeGreeting());
    this.host.markDirty(this);
  }

  /** Takes over the socket of a client that was greeted elsewhere: its options come next. */
  adopt(fd: number, greeted: Greeted): void {
    this.enter("adopted");
    this.takeOver(fd);
    this.negotiation.isSecure = greeted.isSecure;
    this.negotiation.isWithoutZeroes = greeted.isWithoutZeroes;
  }

  private takeOver(fd: number): void {
    this.fd = fd;
    this.negotiation = createNegotiation();
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

  /** Neither requests in the array nor bytes to send. */
  get isIdle(): boolean {
    return this.transmission.arraySlots === 0 && this.outbox.isEmpty;
  }

  get isNegotiating(): boolean {
    return isNegotiating(this.phase);
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
    this.transmission.releaseList(this.outbox.reset());
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

  private canReceive(): boolean {
    return isReading(this.phase) && this.waiting === "nothing";
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
    while (this.canReceive() && this.step());
  }

  /** One step of the phase; false when it needs more bytes or cannot go on. */
  private step(): boolean {
    switch (this.phase) {
      case "client-flags":
        return this.readClientFlags();
      case "option":
        return this.readOptionHeader();
      case "option-data":
        return this.readOptionData();
      case "option-skip":
        return this.skipOptionData();
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

  private readClientFlags(): boolean {
    if (this.buffer.usedBytes < CLIENT_FLAGS_BYTES) return false;
    const flags = this.host.memory.view.getUint32(this.buffer.readAddress);
    this.buffer.consume(CLIENT_FLAGS_BYTES);
    if (!acceptClientFlags(this.negotiation, flags)) return this.violate("unknown client flags");
    this.enter("flags-read");
    return true;
  }

  private readOptionHeader(): boolean {
    // One answer at a time, so that what is queued stays bounded.
    if (this.outbox.hasHandshake) return this.wait("output");
    if (this.buffer.usedBytes < OPTION_HEADER_BYTES) return false;
    const view = this.host.memory.view;
    const address = this.buffer.readAddress;
    const isMagicRight =
      view.getUint32(address) === OPTION_MAGIC_HIGH &&
      view.getUint32(address + 4) === OPTION_MAGIC_LOW;
    if (!isMagicRight) return this.violate("bad option magic");
    this.option = view.getUint32(address + 8);
    this.leftBytes = view.getUint32(address + 12);
    this.buffer.consume(OPTION_HEADER_BYTES);
    if (!countOption(this.negotiation, this.leftBytes, this.host.limits)) {
      return this.violate("too many options, or too much option data");
    }
    const isKept = this.leftBytes <= this.buffer.capacityBytes / OPTION_DATA_SHARE;
    this.enter(isKept ? "option-announced" : "option-refused");
    return true;
  }

  private readOptionData(): boolean {
    if (this.buffer.usedBytes < this.leftBytes) return false;
    const address = this.buffer.readAddress;
    // A copy of its own: the buffer is used again.
    const data = this.host.memory.bytes.slice(address, address + this.leftBytes);
    this.buffer.consume(this.leftBytes);
    this.leftBytes = 0;
    this.applyOutcome(answerOption(this.negotiation, this.option, data, this.host.catalog));
    return true;
  }

  private skipOptionData(): boolean {
    if (!this.dropLeft()) return false;
    this.applyOutcome(answerOversizedOption(this.negotiation, this.option));
    return true;
  }

  private applyOutcome(outcome: OptionOutcome): void {
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
          isStructured: this.negotiation.isStructured,
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
        this.host.markDirty(this);
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
    this.enter("payload-ended");
    return true;
  }
}
