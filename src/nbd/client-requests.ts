/**
 * The requests under way on all connections, as parallel typed arrays.
 *
 * A slot is an index. Connection c owns the slots [c * perConnection, (c + 1) * perConnection), so
 * no client can use up those of another, and a slot names its connection. A slot is
 *
 *   free -> receiving (a write's payload) -> in-array -> reply -> free
 *
 * and keeps its payload run until the last byte of it has been used: by the array for a write, by
 * the socket for a read. Its reply header lies at `headerAddress(slot)` in shared memory; the
 * cookie is put there when the request arrives.
 */
import { assertShared } from "../base/assert.ts";
import { FreeList } from "../base/free-list.ts";
import { withinRow } from "../base/units.ts";
import { REPLY_HEADER_BYTES_MAX } from "./wire-format.ts";

export const SlotState = { free: 0, receiving: 1, inArray: 2, reply: 3 } as const;

export const NO_SLOT = -1;

export class ClientRequests {
  readonly perConnection: number;
  readonly state: Uint8Array;
  /** The command on the wire, and its flags. */
  readonly command: Uint16Array;
  readonly flags: Uint16Array;
  /** When its header was taken (monotonic). */
  readonly startedMs: Float64Array;
  readonly offset: Float64Array;
  readonly bytes: Uint32Array;
  /** The run in the payload pool; 0 for none. */
  readonly runAddress: Uint32Array;
  readonly runBytes: Uint32Array;
  /** Where the first payload byte lies in the run. */
  readonly dataAddress: Uint32Array;
  /** The reply: so many bytes of header, then so many at `dataAddress`. */
  readonly headerBytes: Uint8Array;
  readonly replyBytes: Uint32Array;
  /** By connection: which of its slots are free, counted from its first. */
  private readonly lists: readonly FreeList[];
  private readonly headersAddress: number;

  constructor({
    connections,
    perConnection,
    headersAddress,
  }: {
    connections: number;
    perConnection: number;
    headersAddress: number;
  }) {
    const capacity = connections * perConnection;
    this.perConnection = perConnection;
    this.headersAddress = headersAddress;
    this.state = new Uint8Array(capacity);
    this.command = new Uint16Array(capacity);
    this.flags = new Uint16Array(capacity);
    this.startedMs = new Float64Array(capacity);
    this.offset = new Float64Array(capacity);
    this.bytes = new Uint32Array(capacity);
    this.runAddress = new Uint32Array(capacity);
    this.runBytes = new Uint32Array(capacity);
    this.dataAddress = new Uint32Array(capacity);
    this.headerBytes = new Uint8Array(capacity);
    this.replyBytes = new Uint32Array(capacity);
    this.lists = Array.from({ length: connections }, () => new FreeList(perConnection));
  }

  get capacity(): number {
    return this.state.length;
  }

  connectionOf(slot: number): number {
    return Math.floor(slot / this.perConnection);
  }

  headerAddress(slot: number): number {
    return this.headersAddress + slot * REPLY_HEADER_BYTES_MAX;
  }

  hasFree(connection: number): boolean {
    return this.lists[connection]!.available > 0;
  }

  /** A free slot of the connection, in state `receiving` with no run. There must be one. */
  allocate(connection: number): number {
    const place = this.lists[connection]!.take();
    assertShared(place >= 0, "a connection at its limit is not read");
    const slot = connection * this.perConnection + place;
    assertShared(this.state[slot] === SlotState.free, "a slot in the free list is free");
    this.state[slot] = SlotState.receiving;
    this.runAddress[slot] = 0;
    this.runBytes[slot] = 0;
    this.dataAddress[slot] = 0;
    this.headerBytes[slot] = 0;
    this.replyBytes[slot] = 0;
    return slot;
  }

  /** The data of a read lies in another run of the same size; `address` is its first byte. */
  moveRun(slot: number, address: number): void {
    this.runAddress[slot] = address - withinRow(this.offset[slot]!);
    this.dataAddress[slot] = address;
  }

  free(slot: number): void {
    assertShared(this.state[slot] !== SlotState.free, "a slot is freed once");
    assertShared(this.runAddress[slot] === 0, "a slot gives back its run before itself");
    const connection = this.connectionOf(slot);
    this.state[slot] = SlotState.free;
    this.lists[connection]!.give(slot - connection * this.perConnection);
  }
}
