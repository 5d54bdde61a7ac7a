/**
 * The one writer of a connection: handshake bytes first, then replies in the order they were
 * queued, many per sendmsg.
 *
 * Replies are a queue of slots. The head may be partly sent: `sentBytes` counts its header and
 * payload together. A payload stays pinned until its last byte has been taken by the kernel (which
 * copies it), so nothing interleaves and nothing is freed early. iovecs and the staging area for
 * handshake bytes are shared by all connections, because a send does not outlast the call.
 */
import { EAGAIN, EINTR } from "../base/errno.ts";
import { IndexQueue } from "../base/index-queue.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { SocketKernel } from "../reactor/kernel.ts";
import type { ClientRequests } from "./client-requests.ts";

export const IOVEC_BYTES = 16;
/** Half of them headers, half payloads. */
export const IOVEC_COUNT = 256;
export const STAGING_BYTES = 4096;

const HIGH_WORD = 0x1_0000_0000;

export interface OutboxTools {
  readonly kernel: SocketKernel;
  readonly memory: SharedMemory;
  readonly requests: ClientRequests;
  /** Room for IOVEC_COUNT iovecs. */
  readonly iovecsAddress: number;
  /** Room for STAGING_BYTES. */
  readonly stagingAddress: number;
}

export type FlushOutcome = "sent" | "blocked" | "lost";

export class Outbox {
  private readonly tools: OutboxTools;
  /** Called for each reply whose last byte has gone, or which goes no more. */
  private readonly onDone: (slot: number) => void;
  /** Slots whose replies are to be sent, the oldest first. */
  private readonly replies: IndexQueue;
  private sentBytes = 0;
  private handshake: Uint8Array | null = null;
  private handshakeSentBytes = 0;
  private iovecCount = 0;
  private iovecTotalBytes = 0;
  /** Bytes that the client has taken since the connection began. */
  movedBytes = 0;
  /** The kernel took less than it was given: the client must read first. */
  isBlocked = false;

  constructor(tools: OutboxTools, onDone: (slot: number) => void) {
    this.tools = tools;
    this.replies = new IndexQueue(tools.requests.perConnection);
    this.onDone = onDone;
  }

  get isEmpty(): boolean {
    return this.replies.length === 0 && this.handshake === null;
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
    this.replies.push(slot);
  }

  /** Forgets everything: the connection is gone. */
  reset(): void {
    this.sentBytes = 0;
    this.handshake = null;
    this.movedBytes = 0;
    this.isBlocked = false;
    while (this.replies.length > 0) this.onDone(this.replies.shift());
  }

  /** Sends what the socket takes. */
  flush(fd: number): FlushOutcome {
    this.isBlocked = false;
    while (this.handshake !== null) {
      const taken = this.sendHandshake(fd, this.handshake);
      if (taken !== "sent") return taken;
    }
    while (this.replies.length > 0) {
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
    for (let place = 0; place < this.replies.length; place += 1) {
      if (this.iovecCount + 2 > IOVEC_COUNT) break;
      const slot = this.replies.at(place);
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
    }
  }

  private addIovec(address: number, bytes: number): void {
    const { kernel, memory, iovecsAddress } = this.tools;
    const word = (iovecsAddress + this.iovecCount * IOVEC_BYTES) / 4;
    const pointer = kernel.baseAddress + address;
    memory.u32[word] = pointer >>> 0;
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
    while (this.replies.length > 0) {
      const slot = this.replies.peek();
      const messageBytes = requests.headerBytes[slot]! + requests.replyBytes[slot]!;
      if (left < messageBytes) break;
      left -= messageBytes;
      this.replies.shift();
      this.onDone(slot);
    }
    this.sentBytes = left;
  }
}
