/**
 * The requests of one connection: from a header in its receive buffer to a reply in its outbox.
 *
 * A header is judged before anything is allocated for it. READ and WRITE get a payload run of whole
 * rows whose first payload byte is congruent to the offset in the array, so that the array needs no
 * copy. A request that cannot start now changes nothing: `start` says why, and is called again with
 * the same bytes. After `disconnect` no reply is made, and a run is freed when the array has
 * completed the request, because the drives may write into it until then.
 */

import { FrontFlag, FrontOp, type FrontOpCode } from "../array/front.ts";
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { ESHUTDOWN } from "../base/errno.ts";
import type { SharedMemory } from "../base/memory.ts";
import { roundUp, withinRow } from "../base/units.ts";
import { SLAB_BYTES, type SlabPool } from "../block/pool.ts";
import { type ClientRequests, NO_SLOT, SlotState } from "./client-requests.ts";
import { judgeRequest, type Negotiated, wireError } from "./commands.ts";
import type { Attachment, NbdExport } from "./exports.ts";
import { ALLOCATION_CONTEXT_ID, type Catalog, canFastZero, type ExportOffer } from "./handshake.ts";
import type { NbdLimits } from "./limits.ts";
import type { Outbox } from "./outbox.ts";
import type { PayloadGate } from "./payload-gate.ts";
import {
  Command,
  CommandFlag,
  copyCookie,
  createRequestHeader,
  decodeRequest,
  EXTENT_BYTES,
  encodeBlockStatus,
  encodeBlockStatusHead,
  encodeDataChunk,
  encodeErrorChunk,
  encodeExtent,
  encodeNoneChunk,
  encodeSimpleReply,
} from "./wire-format.ts";

/** Extents of one reply: one slab of payload memory. */
const EXTENTS_BYTES = SLAB_BYTES;

export interface TransmissionTools {
  readonly clock: Clock;
  readonly memory: SharedMemory;
  readonly pool: SlabPool;
  readonly requests: ClientRequests;
  readonly gate: PayloadGate;
  readonly limits: NbdLimits;
  readonly catalog: Catalog;
}

/** What became of a request header. With the first four its bytes are used up. */
export type StartOutcome =
  | "started"
  | "payload-follows"
  | "payload-refused"
  | "disconnect"
  | "wait-own-limit"
  | "wait-payload"
  | "wait-export"
  | "bad-magic"
  | "payload-too-large";

export class Transmission implements Negotiated {
  nbdExport: NbdExport | null = null;
  sizeBytes = 0;
  isReadOnly = false;
  isStructured = false;
  hasAllocationContext = false;
  hasFastZero = false;
  readonly maxRequestBytes: number;
  /** Slots that are not free; those of them that the array has; payload memory of all of them. */
  busySlots = 0;
  arraySlots = 0;
  heldBytes = 0;

  private readonly tools: TransmissionTools;
  private readonly connection: number;
  private readonly outbox: Outbox;
  /** Called when a slot or payload memory was given back. */
  private readonly onRoom: () => void;
  private readonly header = createRequestHeader();
  /** Which front each slot in the array went to. */
  private readonly attachments: (Attachment | null)[];
  /** The write whose payload is being received. */
  private payloadSlot = NO_SLOT;
  /** Its error, where it was refused and its payload is passed over. */
  private refusedWith = 0;

  constructor(options: {
    tools: TransmissionTools;
    connection: number;
    outbox: Outbox;
    onRoom: () => void;
  }) {
    this.tools = options.tools;
    this.connection = options.connection;
    this.outbox = options.outbox;
    this.onRoom = options.onRoom;
    this.maxRequestBytes = options.tools.catalog.maxRequestBytes;
    this.attachments = new Array(options.tools.requests.perConnection).fill(null);
  }

  /** Begins the transmission phase with what was negotiated. */
  open(options: {
    nbdExport: NbdExport;
    offer: ExportOffer;
    isStructured: boolean;
    hasAllocationContext: boolean;
  }): void {
    this.nbdExport = options.nbdExport;
    this.isReadOnly = options.offer.isReadOnly;
    this.isStructured = options.isStructured;
    this.hasAllocationContext = options.hasAllocationContext;
    this.hasFastZero = canFastZero(options.offer);
  }

  /** Makes it ready for another connection. */
  reset(): void {
    assert(this.busySlots === 0 && this.heldBytes === 0, "a free connection holds nothing");
    this.nbdExport = null;
  }

  /** The payload bytes that follow the header given to `start`. */
  get payloadBytes(): number {
    return this.header.bytes;
  }

  /** Starts the request whose header lies at `address`. */
  start(address: number): StartOutcome {
    const header = this.header;
    decodeRequest(this.tools.memory.view, address, header);
    if (!header.isMagicRight) return "bad-magic";
    if (header.command === Command.disconnect) return "disconnect";
    if (!this.tools.requests.hasFree(this.connection)) return "wait-own-limit";
    const error = this.judge();
    if (error !== 0) return this.refuse(address, error);
    if (this.nbdExport!.retiring > 0) return "wait-export";

    switch (header.command) {
      case Command.read:
      case Command.write:
        if (header.bytes > 0) return this.startPayload(address);
        break;
      case Command.flush:
        this.submit(this.takeSlot(address), FrontOp.flush);
        return "started";
      case Command.trim:
      case Command.writeZeroes: {
        if (header.bytes === 0) break;
        const isTrim = header.command === Command.trim;
        this.submit(this.takeSlot(address), isTrim ? FrontOp.trim : FrontOp.writeZeroes);
        return "started";
      }
      case Command.blockStatus:
        return this.startBlockStatus(address);
      default:
        break;
    }
    // Zero bytes and CACHE need nothing of the array.
    this.queueReply(this.takeSlot(address), 0);
    return "started";
  }

  /** The error that answers the request in `header`, or 0. */
  private judge(): number {
    const attachment = this.nbdExport!.attachment;
    if (attachment === null || this.tools.catalog.isStopping) return ESHUTDOWN;
    const isReadOnly = this.isReadOnly;
    // Flags are fixed at the handshake; what the array has lost since still counts. Its size is
    // what it has now: a client that knows of more by other means may ask for that.
    this.isReadOnly ||= this.nbdExport!.isReadOnly || attachment.front.isReadOnly;
    this.sizeBytes = attachment.front.sizeBytes;
    const error = judgeRequest(this.header, this);
    this.isReadOnly = isReadOnly;
    return error;
  }

  private refuse(address: number, error: number): StartOutcome {
    const { command, bytes } = this.header;
    const isWrite = command === Command.write && bytes > 0;
    if (isWrite && bytes > this.tools.limits.maxSkippedPayloadBytes) return "payload-too-large";
    const slot = this.takeSlot(address);
    if (!isWrite) {
      this.queueReply(slot, error);
      return "started";
    }
    // Clients take no reply for what they are still sending: libnbd ends the connection upon one.
    this.payloadSlot = slot;
    this.refusedWith = error;
    return "payload-refused";
  }

  /** The payload of a write that was refused has been passed over. */
  finishRefused(): void {
    const slot = this.payloadSlot;
    assert(slot !== NO_SLOT && this.refusedWith !== 0, "a write was refused, and is answered once");
    this.payloadSlot = NO_SLOT;
    this.queueReply(slot, this.refusedWith);
    this.refusedWith = 0;
  }

  /** Gives the request at `address` a slot. */
  private takeSlot(address: number): number {
    const { requests, memory } = this.tools;
    const header = this.header;
    const slot = requests.allocate(this.connection);
    requests.command[slot] = header.command;
    requests.flags[slot] = header.flags;
    requests.startedMs[slot] = this.tools.clock.nowMs();
    requests.offset[slot] = header.offset;
    requests.bytes[slot] = header.bytes;
    copyCookie(memory.view, address, requests.headerAddress(slot));
    this.busySlots += 1;
    return slot;
  }

  /**
   * Whether another run of `runBytes` is more than this connection may hold now. One run passes in
   * any case, so that whoever waits here goes on at the latest when its own requests are done.
   */
  private exceedsShare(runBytes: number): boolean {
    if (this.heldBytes === 0) return false;
    const { pool, limits } = this.tools;
    const heldBytes = this.heldBytes + runBytes;
    if (heldBytes > limits.maxPayloadBytesPerConnection) return true;
    const { freeBytes } = pool;
    const isAlone = this.heldBytes + freeBytes === pool.totalBytes;
    return !isAlone && heldBytes * limits.freePayloadShare > freeBytes;
  }

  /** Starts a READ or WRITE of at least one byte. */
  private startPayload(address: number): StartOutcome {
    const { requests, gate } = this.tools;
    const header = this.header;
    const lead = withinRow(header.offset);
    // Counted as the pool does: small requests hold more than they carry.
    const runBytes = roundUp(lead + header.bytes, SLAB_BYTES);
    if (this.exceedsShare(runBytes)) return "wait-own-limit";
    const run = gate.take(this.connection, runBytes);
    if (run === 0) return "wait-payload";
    const slot = this.takeSlot(address);
    requests.runAddress[slot] = run;
    requests.runBytes[slot] = runBytes;
    requests.dataAddress[slot] = run + lead;
    this.heldBytes += runBytes;
    if (header.command === Command.read) {
      this.submit(slot, FrontOp.read);
      return "started";
    }
    this.payloadSlot = slot;
    this.nbdExport!.attachment!.front.noteComing(header.offset, true);
    return "payload-follows";
  }

  /** Answers with one extent, or with a list of them in payload memory. */
  private startBlockStatus(address: number): StartOutcome {
    const { requests, gate, memory } = this.tools;
    const { offset, bytes, flags } = this.header;
    const { front } = this.nbdExport!.attachment!;
    const limit = offset + bytes;
    const isOne = (flags & CommandFlag.requestOne) !== 0;
    if (isOne || front.allocationEnd(offset, limit) === limit) {
      this.queueReply(this.takeSlot(address), 0);
      return "started";
    }
    if (this.exceedsShare(EXTENTS_BYTES)) return "wait-own-limit";
    const run = gate.take(this.connection, EXTENTS_BYTES);
    if (run === 0) return "wait-payload";
    const slot = this.takeSlot(address);
    requests.runAddress[slot] = run;
    requests.runBytes[slot] = EXTENTS_BYTES;
    requests.dataAddress[slot] = run;
    this.heldBytes += EXTENTS_BYTES;
    let listBytes = 0;
    for (let from = offset; from < limit && listBytes < EXTENTS_BYTES; ) {
      const end = front.allocationEnd(from, limit);
      encodeExtent(memory.view, run + listBytes, end - from, front.allocationAt(from));
      listBytes += EXTENT_BYTES;
      from = end;
    }
    requests.replyBytes[slot] = listBytes;
    this.queueReply(slot, 0);
    return "started";
  }

  /** Where the last `leftBytes` bytes of the payload being received belong. */
  payloadAddress(leftBytes: number): number {
    const requests = this.tools.requests;
    const slot = this.payloadSlot;
    return requests.dataAddress[slot]! + requests.bytes[slot]! - leftBytes;
  }

  /** Submits the write whose payload is complete; false while its export changes fronts. */
  finishPayload(): boolean {
    // The front may have changed since the header came.
    const nbdExport = this.nbdExport!;
    const isStopped = nbdExport.attachment === null || this.tools.catalog.isStopping;
    if (!isStopped && nbdExport.retiring > 0) return false;
    const slot = this.payloadSlot;
    this.payloadSlot = NO_SLOT;
    if (isStopped) this.queueReply(slot, ESHUTDOWN);
    else this.submit(slot, FrontOp.write);
    return true;
  }

  /** A write whose payload will not become complete is never submitted. */
  dropPayload(): void {
    const slot = this.payloadSlot;
    this.payloadSlot = NO_SLOT;
    this.refusedWith = 0;
    if (slot === NO_SLOT) return;
    const front = this.nbdExport?.attachment?.front;
    front?.noteComing(this.tools.requests.offset[slot]!, false);
    this.release(slot);
  }

  private submit(slot: number, op: FrontOpCode): void {
    const requests = this.tools.requests;
    const attachment = this.nbdExport!.attachment;
    assert(attachment !== null, "a request is judged before it is submitted");
    requests.state[slot] = SlotState.inArray;
    this.attachments[slot - this.connection * requests.perConnection] = attachment;
    attachment.inFlight += 1;
    this.arraySlots += 1;
    attachment.front.submit(
      attachment.handle,
      op,
      requests.offset[slot]!,
      requests.bytes[slot]!,
      requests.dataAddress[slot]!,
      frontFlags(op, requests.flags[slot]!),
      slot,
    );
  }

  /** The array is done with the request in `slot`. `isGone`: nobody is left to answer. */
  complete(slot: number, status: number, isGone: boolean): void {
    const requests = this.tools.requests;
    assert(requests.state[slot] === SlotState.inArray, "a request completes once");
    const place = slot - this.connection * requests.perConnection;
    this.attachments[place]!.inFlight -= 1;
    this.attachments[place] = null;
    this.arraySlots -= 1;
    if (isGone) this.release(slot);
    else this.queueReply(slot, wireError(status));
  }

  /** What completed met a defect: the array has answered it all the same. */
  forget(slot: number): void {
    const place = slot - this.connection * this.tools.requests.perConnection;
    const attachment = this.attachments[place];
    if (attachment === null || attachment === undefined) return;
    attachment.inFlight -= 1;
    this.attachments[place] = null;
    this.arraySlots -= 1;
  }

  private queueReply(slot: number, error: number): void {
    const requests = this.tools.requests;
    const isRead = requests.command[slot] === Command.read;
    const isStatus = requests.command[slot] === Command.blockStatus;
    const hasData = (isRead || isStatus) && error === 0 && requests.runAddress[slot] !== 0;
    // Only the payload of a reply is still needed.
    if (!hasData) this.freeRun(slot);
    requests.state[slot] = SlotState.reply;
    const tookMs = this.tools.clock.nowMs() - requests.startedMs[slot]!;
    this.nbdExport!.answers.add(requests.command[slot]!, error, tookMs);
    if (isRead) requests.replyBytes[slot] = hasData ? requests.bytes[slot]! : 0;
    requests.headerBytes[slot] = this.encodeReplyHeader(slot, error, hasData);
    this.outbox.pushReply(slot);
  }

  /** READ and BLOCK_STATUS are answered in chunks once those were negotiated. */
  private encodeReplyHeader(slot: number, error: number, hasData: boolean): number {
    const { requests, memory } = this.tools;
    const command = requests.command[slot]!;
    const address = requests.headerAddress(slot);
    const isChunked =
      this.isStructured && (command === Command.read || command === Command.blockStatus);
    if (!isChunked) return encodeSimpleReply(memory.view, address, error);
    if (error !== 0) return encodeErrorChunk(memory.view, address, error);
    const bytes = requests.bytes[slot]!;
    const offset = requests.offset[slot]!;
    if (command === Command.blockStatus) {
      const { view } = memory;
      if (hasData) {
        const extentCount = requests.replyBytes[slot]! / EXTENT_BYTES;
        return encodeBlockStatusHead(view, address, ALLOCATION_CONTEXT_ID, extentCount);
      }
      const { front } = this.nbdExport!.attachment!;
      const extentBytes = front.allocationEnd(offset, offset + bytes) - offset;
      const state = front.allocationAt(offset);
      return encodeBlockStatus(view, address, ALLOCATION_CONTEXT_ID, extentBytes, state);
    }
    if (!hasData) return encodeNoneChunk(memory.view, address);
    return encodeDataChunk(memory.view, address, offset, bytes);
  }

  /** Gives back a slot and what it holds. */
  release(slot: number): void {
    this.freeRun(slot);
    this.tools.requests.free(slot);
    this.busySlots -= 1;
    this.onRoom();
  }

  private freeRun(slot: number): void {
    const requests = this.tools.requests;
    const run = requests.runAddress[slot]!;
    if (run === 0) return;
    requests.runAddress[slot] = 0;
    this.heldBytes -= requests.runBytes[slot]!;
    this.tools.pool.free(run, requests.runBytes[slot]!);
    this.onRoom();
  }
}

function frontFlags(op: FrontOpCode, flags: number): number {
  if (op === FrontOp.read || op === FrontOp.flush) return 0;
  let front = (flags & CommandFlag.fua) === 0 ? 0 : FrontFlag.fua;
  if ((flags & CommandFlag.noHole) !== 0) front |= FrontFlag.noHole;
  if ((flags & CommandFlag.fastZero) !== 0) front |= FrontFlag.fastZero;
  return front;
}
