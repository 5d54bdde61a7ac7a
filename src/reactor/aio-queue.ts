/**
 * The one way from block devices to Linux AIO: per-device FIFOs, one io_submit per loop turn.
 *
 *   enqueue ─► FIFO of the device ─► slot (an iocb) ─► pending ─► kernel ─► reap ─► handlers
 *                                    in-flight limit   io_submit            in one batch
 *
 * - Requests of a device reach the kernel in the order of `enqueue`. Neighbours in the FIFO that
 *   are contiguous on the device (same direction, same FUA) share an iocb.
 * - Each request completes exactly once, in `reap`. A merged iocb that fails or falls short says
 *   nothing about the requests it did not reach, so those go again, each alone, and each is judged
 *   by its own answer.
 * - io_submit's own -EAGAIN, -EINTR, -ENOMEM and -EBUSY never surface: nothing was taken, so it is
 *   tried again, after the next reap or `retryDelayMs`. Any other error condemns the first iocb.
 * - All completions of one reap are collected before the first handler runs; batch listeners frame
 *   them, so that a layer above can judge them together (write-rules 15).
 *
 * A request passes through as numbers in parallel arrays; nothing is allocated per I/O.
 */
import { assertShared } from "../base/assert.ts";
import { EAGAIN, EBUSY, EINTR, ENOMEM, EOPNOTSUPP } from "../base/errno.ts";
import { FreeList } from "../base/free-list.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import { MIB } from "../base/units.ts";
import { CompletionBatch } from "./aio-batch.ts";
import { AioMemory, EVENTS_MAX, IOVECS_PER_SLOT, ZERO_AREA_BYTES } from "./aio-memory.ts";
import { AioSignals } from "./aio-signals.ts";
import { checkRequest, type IoTable, Op } from "./io-table.ts";
import type { AioKernel } from "./kernel.ts";

/** A merged iocb moves at most this much. */
const MERGED_BYTES_MAX = MIB;
const ZERO_PART_BYTES_MAX = IOVECS_PER_SLOT * ZERO_AREA_BYTES;
const DEFAULT_SLOT_COUNT = 2048;
const RETRY_IDLE_MS = 1;
const RETRY_BUSY_MS = 10;
const BLIND_WAIT_MS = 1;
const NONE = -1;

const RequestState = { idle: 0, queued: 1, submitted: 2, completed: 3 } as const;

interface Device {
  readonly fd: number;
  readonly onComplete: (request: number, result: number) => void;
  readonly maxInFlight: number;
  head: number;
  tail: number;
  /** Slots of this device that are pending or with the kernel. */
  inFlight: number;
  /** Requests that were enqueued and not yet answered. */
  outstanding: number;
}

export class AioQueue {
  private readonly kernel: AioKernel;
  private readonly table: IoTable;
  private readonly arrays: AioMemory;
  private readonly devices: (Device | undefined)[] = [];
  private firstDevice = 0;

  /** By request: the FIFO or the merged chain it is in, its device, and where it stands. */
  private readonly next: Int32Array;
  private readonly deviceOf: Uint16Array;
  private readonly state: Uint8Array;
  /** 1: goes unmerged, because an iocb it shared did not reach it. */
  private readonly isAlone: Uint8Array;
  /** writeZeroes is cut in parts: the bytes of those that are done. */
  private readonly doneBytes: Float64Array;

  /** By slot: its device, the chain of its requests, and the bytes it moves. */
  private readonly slotDevice: Uint16Array;
  private readonly slotFirst: Int32Array;
  private readonly slotBytes: Uint32Array;
  private readonly slotGeneration: Uint32Array;
  private readonly slots: FreeList;

  /** Slots that are built and not yet taken by the kernel, in order. */
  private readonly pending: Uint32Array;
  private pendingCount = 0;
  private readonly signals: AioSignals;

  private readonly batch: CompletionBatch;

  private hasChanged = false;
  private isRefused = false;

  constructor(options: {
    kernel: AioKernel;
    table: IoTable;
    carver: Carver;
    memory: SharedMemory;
    /** Is signalled with each completion; -1: none. */
    eventFd: number;
    /** iocbs under way at most; the kernel context has to hold as many. */
    slotCount?: number;
  }) {
    const { kernel, table, carver, memory, eventFd, slotCount = DEFAULT_SLOT_COUNT } = options;
    const { baseAddress } = kernel;
    this.kernel = kernel;
    this.table = table;
    this.arrays = new AioMemory({ memory, carver, baseAddress, slotCount, eventFd });
    this.next = new Int32Array(table.capacity).fill(NONE);
    this.deviceOf = new Uint16Array(table.capacity);
    this.state = new Uint8Array(table.capacity);
    this.isAlone = new Uint8Array(table.capacity);
    this.doneBytes = new Float64Array(table.capacity);
    this.slotDevice = new Uint16Array(slotCount);
    this.slotFirst = new Int32Array(slotCount).fill(NONE);
    this.slotBytes = new Uint32Array(slotCount);
    this.slotGeneration = new Uint32Array(slotCount);
    this.signals = new AioSignals(slotCount);
    this.slots = new FreeList(slotCount);
    this.pending = new Uint32Array(slotCount);
    this.batch = new CompletionBatch(table.capacity, (request, result) => {
      const device = this.device(this.deviceOf[request]!);
      this.state[request] = RequestState.idle;
      device.outstanding -= 1;
      device.onComplete(request, result);
    });
  }

  /** True when `submit` or `reap` has something to do, so that the loop must not wait. */
  get hasWork(): boolean {
    return this.hasChanged || this.batch.count > 0;
  }

  /** True when `reap` would find completions that the kernel has written already. */
  get hasCompletions(): boolean {
    return this.kernel.eventCount > 0;
  }

  /** How long the loop may wait before `submit` and `reap` are tried again; -1: no need to. */
  get retryDelayMs(): number {
    if (this.signals.isWaitBlind) return BLIND_WAIT_MS;
    if (!this.isRefused) return -1;
    return this.signals.inKernel === 0 ? RETRY_IDLE_MS : RETRY_BUSY_MS;
  }

  /** Requests that are queued, submitted or not yet answered, of all devices. */
  get outstandingTotal(): number {
    let total = 0;
    for (const device of this.devices) total += device?.outstanding ?? 0;
    return total;
  }

  /** Registers an open file; the answer is its handle. */
  openDevice(options: {
    fd: number;
    onComplete: (request: number, result: number) => void;
    /**
     * iocbs with the kernel at most: below the queue of the device, so that io_submit won't block.
     */
    maxInFlight: number;
  }): number {
    assertShared(options.maxInFlight >= 1, "a device takes at least one request at a time");
    const device: Device = { ...options, head: NONE, tail: NONE, inFlight: 0, outstanding: 0 };
    const unused = this.devices.indexOf(undefined);
    if (unused < 0) return this.devices.push(device) - 1;
    this.devices[unused] = device;
    return unused;
  }

  /** Forgets a device that has nothing outstanding (write-rules 10). */
  closeDevice(handle: number): void {
    assertShared(this.outstanding(handle) === 0, "a device is closed when nothing is outstanding");
    this.devices[handle] = undefined;
  }

  /** Requests of the device that were enqueued and not yet answered. */
  outstanding(handle: number): number {
    return this.device(handle).outstanding;
  }

  /** Takes a request; it goes to the kernel in the next `submit` that has room for it. */
  enqueue(handle: number, request: number): void {
    const device = this.device(handle);
    assertShared(
      this.state[request] === RequestState.idle,
      "a request is not reissued while it is out",
    );
    checkRequest(this.table, request);
    this.deviceOf[request] = handle;
    this.isAlone[request] = 0;
    this.doneBytes[request] = 0;
    this.next[request] = NONE;
    this.state[request] = RequestState.queued;
    device.outstanding += 1;
    if (this.table.op[request] === Op.discard) {
      this.complete(request, -EOPNOTSUPP);
      return;
    }
    if (device.head === NONE) device.head = request;
    else this.next[device.tail] = request;
    device.tail = request;
    this.hasChanged = true;
  }

  /**
   * Answers every write, zeroing and flush of the device that the kernel has not got yet with
   * `-errno`, in the next reap: once two members are gone nothing more is submitted (write-rules
   * 15).
   */
  cancelQueuedWrites(handle: number, errno: number): number {
    const device = this.device(handle);
    this.takeBackPending(handle);
    let cancelled = 0;
    let request = device.head;
    device.head = NONE;
    device.tail = NONE;
    while (request !== NONE) {
      const following = this.next[request]!;
      this.next[request] = NONE;
      if (this.table.op[request] === Op.read) {
        if (device.head === NONE) device.head = request;
        else this.next[device.tail] = request;
        device.tail = request;
      } else {
        this.complete(request, -errno);
        cancelled += 1;
      }
      request = following;
    }
    this.hasChanged = true;
    return cancelled;
  }

  /** Hands everything that is queued, as far as limits allow, to the kernel: one io_submit. */
  submit(): void {
    this.hasChanged = false;
    this.arrays.isSignalling = this.signals.isNeeded;
    const count = this.devices.length;
    for (let turn = 0; turn < count; turn += 1) this.fillSlots((this.firstDevice + turn) % count);
    // Another device comes first next time, so that none starves when slots are scarce.
    this.firstDevice = count === 0 ? 0 : (this.firstDevice + 1) % count;
    this.submitPending();
  }

  /**
   * Takes all completions there are and calls the handlers. Answers how many requests completed.
   */
  reap(): number {
    for (;;) {
      const count = this.kernel.getEvents(this.arrays.eventsAddress, EVENTS_MAX);
      assertShared(count >= 0 || count === -EINTR, "io_getevents fails only by our own mistake");
      for (let index = 0; index < count; index += 1) this.finishEvent(index);
      if (count < EVENTS_MAX) break;
    }
    return this.batch.deliver();
  }

  private device(handle: number): Device {
    const device = this.devices[handle];
    assertShared(device !== undefined, "the device is open");
    return device;
  }

  /** Builds iocbs from the FIFO of one device. */
  private fillSlots(handle: number): void {
    const device = this.devices[handle];
    if (device === undefined) return;
    while (device.head !== NONE && device.inFlight < device.maxInFlight) {
      const slot = this.slots.take();
      if (slot < 0) return;
      const first = device.head;
      this.slotDevice[slot] = handle;
      this.slotFirst[slot] = first;
      this.slotGeneration[slot] = (this.slotGeneration[slot]! + 1) >>> 0;
      const last = this.buildSlot(slot, first, device.fd);
      device.head = this.next[last]!;
      if (device.head === NONE) device.tail = NONE;
      this.next[last] = NONE;
      device.inFlight += 1;
      this.pending[this.pendingCount] = slot;
      this.pendingCount += 1;
    }
  }

  /** Fills the iocb of `slot` from the request `first` and its neighbours; answers the last one. */
  private buildSlot(slot: number, first: number, fd: number): number {
    const op = this.table.op[first]!;
    const generation = this.slotGeneration[slot]!;
    this.state[first] = RequestState.submitted;
    this.signals.built(slot, op === Op.flush);
    if (op === Op.flush) {
      this.slotBytes[slot] = 0;
      this.arrays.setFlush(slot, generation, fd);
      return first;
    }
    const isWrite = op !== Op.read;
    const isDurable = isWrite && this.table.isFua[first] === 1;
    let bytes = this.table.bytes[first]!;
    let offset = this.table.offset[first]!;
    let iovecCount = 1;
    let last = first;
    if (op === Op.writeZeroes) {
      offset += this.doneBytes[first]!;
      bytes = Math.min(bytes - this.doneBytes[first]!, ZERO_PART_BYTES_MAX);
      iovecCount = this.addZeroes(slot, bytes);
    } else {
      this.arrays.setIovec(slot, 0, this.table.address[first]!, bytes);
      for (;;) {
        const request = this.next[last]!;
        if (request === NONE || !this.canMerge(last, request)) break;
        const requestBytes = this.table.bytes[request]!;
        if (bytes + requestBytes > MERGED_BYTES_MAX) break;
        const address = this.table.address[request]!;
        if (this.table.address[last]! + this.table.bytes[last]! === address) {
          this.arrays.growIovec(slot, iovecCount - 1, requestBytes);
        } else {
          if (iovecCount === IOVECS_PER_SLOT) break;
          this.arrays.setIovec(slot, iovecCount, address, requestBytes);
          iovecCount += 1;
        }
        bytes += requestBytes;
        last = request;
        this.state[request] = RequestState.submitted;
      }
    }
    this.slotBytes[slot] = bytes;
    this.arrays.setTransfer(slot, generation, fd, isWrite, isDurable, offset, bytes, iovecCount);
    return last;
  }

  private addZeroes(slot: number, bytes: number): number {
    let count = 0;
    for (let done = 0; done < bytes; done += ZERO_AREA_BYTES) {
      const part = Math.min(ZERO_AREA_BYTES, bytes - done);
      this.arrays.setIovec(slot, count, this.arrays.zeroAddress, part);
      count += 1;
    }
    return count;
  }

  private canMerge(left: number, right: number): boolean {
    const { op, isFua, offset, bytes } = this.table;
    return (
      op[left] === op[right] &&
      isFua[left] === isFua[right] &&
      offset[left]! + bytes[left]! === offset[right]! &&
      this.isAlone[left] === 0 &&
      this.isAlone[right] === 0
    );
  }

  private submitPending(): void {
    this.isRefused = false;
    const count = this.pendingCount;
    if (count === 0) return;
    for (let index = 0; index < count; index += 1) {
      this.arrays.setListEntry(index, this.pending[index]!);
    }
    let taken = 0;
    while (taken < count) {
      const answer = this.kernel.submit(this.arrays.listAddress + taken * 8, count - taken);
      if (answer > 0) {
        assertShared(answer <= count - taken, "the kernel takes no more than it was given");
        for (let index = taken; index < taken + answer; index += 1) {
          this.signals.taken(this.pending[index]!);
        }
        taken += answer;
      } else if (answer === 0 || isTransient(-answer)) {
        this.isRefused = true;
        break;
      } else {
        // The error is about the first iocb of the list: it never ran, the rest is still to go.
        this.finishSlot(this.pending[taken]!, answer);
        taken += 1;
      }
    }
    if (taken < count) this.pending.copyWithin(0, taken, count);
    this.pendingCount = count - taken;
    this.signals.judge(this.kernel.eventCount);
  }

  /** Puts the built but not submitted slots of a device back in front of its FIFO. */
  private takeBackPending(handle: number): void {
    let kept = this.pendingCount;
    // From the last to the first, so that each goes in front of those that came after it.
    for (let index = this.pendingCount - 1; index >= 0; index -= 1) {
      const slot = this.pending[index]!;
      if (this.slotDevice[slot] === handle) {
        this.requeueInFront(this.slotFirst[slot]!);
        this.releaseSlot(slot);
      } else {
        kept -= 1;
        this.pending[kept] = slot;
      }
    }
    this.pending.copyWithin(0, kept, this.pendingCount);
    this.pendingCount -= kept;
  }

  private finishEvent(index: number): void {
    const slot = this.arrays.eventSlot(index);
    assertShared(
      slot < this.arrays.slotCount && this.slotFirst[slot] !== NONE,
      "the slot is in use",
    );
    assertShared(
      this.arrays.eventGeneration(index) === this.slotGeneration[slot],
      "a slot completes once",
    );
    this.signals.finished(slot);
    this.finishSlot(slot, this.arrays.eventResult(index));
  }

  private finishSlot(slot: number, result: number): void {
    const first = this.slotFirst[slot]!;
    if (this.next[first] !== NONE) this.splitResult(slot, first, result);
    else if (this.table.op[first] === Op.writeZeroes) this.finishZeroes(slot, first, result);
    else this.complete(first, result);
    this.releaseSlot(slot);
  }

  private releaseSlot(slot: number): void {
    this.device(this.slotDevice[slot]!).inFlight -= 1;
    this.slotFirst[slot] = NONE;
    this.slots.give(slot);
    this.hasChanged = true;
  }

  /** Gives the bytes of a merged transfer out in order; requests it did not reach go again. */
  private splitResult(slot: number, first: number, result: number): void {
    let left = Math.max(result, 0);
    let request = first;
    while (request !== NONE && left > 0) {
      const following = this.next[request]!;
      // More than was asked for is kept as it is: the judge of completions stops there.
      const isLast = following === NONE && result > this.slotBytes[slot]!;
      const bytes = isLast ? left : Math.min(left, this.table.bytes[request]!);
      this.next[request] = NONE;
      this.complete(request, bytes);
      left -= bytes;
      request = following;
    }
    if (request === NONE) return;
    for (let alone = request; alone !== NONE; alone = this.next[alone]!) this.isAlone[alone] = 1;
    this.requeueInFront(request);
  }

  private finishZeroes(slot: number, request: number, result: number): void {
    const doneBytes = this.doneBytes[request]!;
    const isWhole = result === this.slotBytes[slot]!;
    if (isWhole && doneBytes + result < this.table.bytes[request]!) {
      this.doneBytes[request] = doneBytes + result;
      this.requeueInFront(request);
      return;
    }
    // An error after the first part is a short request: its rest meets the error by itself.
    if (doneBytes > 0) this.complete(request, doneBytes + Math.max(result, 0));
    else this.complete(request, result);
  }

  /** Puts a chain of requests in front of the FIFO of their device. */
  private requeueInFront(first: number): void {
    const device = this.device(this.deviceOf[first]!);
    let last = first;
    this.state[last] = RequestState.queued;
    while (this.next[last] !== NONE) {
      last = this.next[last]!;
      this.state[last] = RequestState.queued;
    }
    this.next[last] = device.head;
    if (device.head === NONE) device.tail = last;
    device.head = first;
  }

  private complete(request: number, result: number): void {
    this.state[request] = RequestState.completed;
    this.batch.add(request, result);
  }
}

function isTransient(errno: number): boolean {
  return errno === EAGAIN || errno === EINTR || errno === ENOMEM || errno === EBUSY;
}
