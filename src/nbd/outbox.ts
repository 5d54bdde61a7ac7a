/**
 * The one writer of a connection: handshake bytes first, then replies in the order they were
 * queued, many per sendmsg.
 *
 * Replies are a list through RequestTable.next. The head may be partly sent: `sentBytes` counts
 * its header and payload together. A payload stays pinned until its last byte has been taken by
 * the kernel (which copies it), so nothing interleaves and nothing is freed early. iovecs and the
 * staging area for handshake bytes are shared by all connections, because a send does not outlast
 * the call.
 */
import { EAGAIN, EINTR } from "../base/errno.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { SocketKernel } from "../reactor/kernel.ts";
import { NO_SLOT, type RequestTable } from "./request-table.ts";

export const IOVEC_BYTES = 16;
/** Half of them headers, half payloads. */
export const IOVEC_COUNT = 256;
export const STAGING_BYTES = 4096;

const HIGH_WORD = 0x1_0000_0000;

export interface OutboxTools {
  readonly kernel: SocketKernel;
  readonly memory: SharedMemory;
  readonly requests: RequestTable;
  /** Room for IOVEC_COUNT iovecs. */
  readonly iovecsAddress: number;
  /** Room for STAGING_BYTES. */
  readonly stagingAddress: number;
}

export type FlushOutcome = "sent" | "blocked" | "lost";

export class Outbox {
  private readonly tools: OutboxTools;
  /** Called for each reply whose last byte has gone. */
  private readonly onSent: (slot: number) => void;
  private head = NO_SLOT;
  private tail = NO_SLOT;
  private sentBytes = 0;
  private handshake: Uint8Array | null = null;
  private handshakeSentBytes = 0;
  private iovecCount = 0;
  private iovecTotalBytes = 0;
  /** Bytes that the client has taken since the connection began. */
  movedBytes = 0;
  /** The kernel took less than it was given: the client must read first. */
  isBlocked = false;

  constructor(tools: OutboxTools, onSent: (slot: number) => void) {
    this.tools = tools;
    this.onSent = onSent;
  }

  get isEmpty(): boolean {
    return this.head === NO_SLOT && this.handshake === null;
  }

  get hasHandshake(): boolean {
    return this.handshake !== null;
  }

  /** Queues handshake bytes. Only when there are none: options wait for the answer before. */
  pushHandshake(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.handshake = bytes;
    this.handshakeSentBytes = 0;
  }

  pushReply(slot: number): void {
    const next = this.tools.requests.next;
    next[slot] = NO_SLOT;
    if (this.tail === NO_SLOT) this.head = slot;
    else next[this.tail] = slot;
    this.tail = slot;
  }

  /** Forgets everything and answers the first slot of the list that was queued, or NO_SLOT. */
  reset(): number {
    const first = this.head;
    this.head = NO_SLOT;
    this.tail = NO_SLOT;
    this.sentBytes = 0;
    this.handshake = null;
    this.movedBytes = 0;
    this.isBlocked = false;
    return first;
  }

  /** Sends what the socket takes. */
  flush(fd: number): FlushOutcome {
    this.isBlocked = false;
    while (this.handshake !== null) {
      const taken = this.sendHandshake(fd, this.handshake);
      if (taken !== "sent") return taken;
    }
    while (this.head !== NO_SLOT) {
      this.buildIovecs();
      const taken = this.tools.kernel.sendv(fd, this.tools.iovecsAddress, this.iovecCount);
      if (taken <= 0) return this.judgeFailure(taken);
      this.movedBytes += taken;
      this.consume(taken);
      // A short send means a full socket buffer; asking again would only cost the call.
      if (taken < this.iovecTotalBytes) {
        this.isBlocked = true;
        return "blocked";
      }
    }
    return "sent";
  }

  private sendHandshake(fd: number, bytes: Uint8Array): FlushOutcome {
    const { kernel, memory, iovecsAddress, stagingAddress } = this.tools;
    const count = Math.min(bytes.length - this.handshakeSentBytes, STAGING_BYTES);
    for (let index = 0; index < count; index += 1) {
      memory.bytes[stagingAddress + index] = bytes[this.handshakeSentBytes + index]!;
    }
    this.iovecCount = 0;
    this.addIovec(stagingAddress, count);
    const taken = kernel.sendv(fd, iovecsAddress, 1);
    if (taken <= 0) return this.judgeFailure(taken);
    this.movedBytes += taken;
    this.handshakeSentBytes += taken;
    if (this.handshakeSentBytes === bytes.length) this.handshake = null;
    return "sent";
  }

  private judgeFailure(result: number): FlushOutcome {
    if (result !== -EAGAIN && result !== -EINTR && result !== 0) return "lost";
    this.isBlocked = true;
    return "blocked";
  }

  private buildIovecs(): void {
    const requests = this.tools.requests;
    this.iovecCount = 0;
    this.iovecTotalBytes = 0;
    let skipBytes = this.sentBytes;
    let slot = this.head;
    while (slot !== NO_SLOT && this.iovecCount + 2 <= IOVEC_COUNT) {
      const headerBytes = requests.headerBytes[slot]!;
      const replyBytes = requests.replyBytes[slot]!;
      if (skipBytes < headerBytes) {
        this.addIovec(requests.headerAddress(slot) + skipBytes, headerBytes - skipBytes);
        skipBytes = headerBytes;
      }
      const skippedPayload = skipBytes - headerBytes;
      if (skippedPayload < replyBytes) {
        this.addIovec(requests.dataAddress[slot]! + skippedPayload, replyBytes - skippedPayload);
      }
      skipBytes = 0;
      slot = requests.next[slot]!;
    }
  }

  private addIovec(address: number, bytes: number): void {
    const { kernel, memory, iovecsAddress } = this.tools;
    const word = (iovecsAddress + this.iovecCount * IOVEC_BYTES) / 4;
    const pointer = kernel.baseAddress + address;
    memory.u32[word] = pointer % HIGH_WORD;
    memory.u32[word + 1] = Math.floor(pointer / HIGH_WORD);
    memory.u32[word + 2] = bytes;
    memory.u32[word + 3] = 0;
    this.iovecCount += 1;
    this.iovecTotalBytes += bytes;
  }

  /** Takes `bytes` sent off the list. */
  private consume(bytes: number): void {
    const requests = this.tools.requests;
    let left = bytes + this.sentBytes;
    while (this.head !== NO_SLOT) {
      const slot = this.head;
      const messageBytes = requests.headerBytes[slot]! + requests.replyBytes[slot]!;
      if (left < messageBytes) break;
      left -= messageBytes;
      // Read before onSent: it frees the slot, which puts it into another list.
      this.head = requests.next[slot]!;
      if (this.head === NO_SLOT) this.tail = NO_SLOT;
      this.onSent(slot);
    }
    this.sentBytes = left;
  }
}
