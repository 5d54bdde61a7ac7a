/**
 * The load on an array: keeps a fixed number of requests under way at its front, from the
 * completion callback itself, as the NBD server does.
 *
 * A lane is one request under way: it has a buffer to read into and one to write from. Nothing is
 * allocated per request. Two writes of the same place are never under way at once, so the
 * generator knows what every row must hold.
 */
import { type ArrayFront, FrontOp } from "../../src/array/front.ts";
import { assert } from "../../src/base/assert.ts";
import type { SharedMemory } from "../../src/base/memory.ts";
import { ROW_BYTES } from "../../src/base/units.ts";
import type { SlabPool } from "../../src/block/pool.ts";
import type { Reactor } from "../../src/reactor/reactor.ts";
import type { Latencies } from "./latencies.ts";
import { fillBodies, isRowIntact, stampRow, WORDS_PER_ROW } from "./stamps.ts";
import { stopwatch } from "./stopwatch.ts";

export interface Workload {
  readonly kind: "read" | "write" | "mixed";
  readonly isRandom: boolean;
  readonly requestBytes: number;
  readonly depth: number;
}

/** When a run ends. The first part of it is not measured. */
export interface RunLimits {
  readonly warmMs: number;
  readonly measureMs: number;
  /** Ends it earlier, or later where `measureMs` is infinite. */
  readonly operations: number;
}

export interface LoadResult {
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** Looks at a run: the part of it that is measured has begun. */
export interface RunObserver {
  readonly latencies: Latencies;
  begin(): void;
}

const VERIFY_DEPTH = 32;

export class ArrayLoad {
  private readonly reactor: Reactor;
  private readonly memory: SharedMemory;
  private readonly pool: SlabPool;
  private front: ArrayFront;
  private handle: number;
  private readonly windowOffset: number;
  private readonly rowCount: number;
  /** By row: the generation that it was last written with; 0: never. */
  private readonly generations: Uint32Array;
  private generation = 0;
  private randomState = 0x2545f491;

  private workload: Workload = { kind: "read", isRandom: false, requestBytes: 0, depth: 0 };
  private placeCount = 0;
  private nextPlace = 0;
  /** By place of `requestBytes`: 1 while a write of it is under way. */
  private busy = new Uint8Array(0);
  private readBuffers: Uint32Array = new Uint32Array(0);
  private writeBuffers: Uint32Array = new Uint32Array(0);
  private readonly placeOf = new Uint32Array(256);
  private readonly isWrite = new Uint8Array(256);
  private isRunning = false;
  private isVerifying = false;
  private inFlight = 0;
  private operations = 0;
  private wrongRows = 0;
  private observer: RunObserver | null = null;
  private readonly startedNs = new Float64Array(256);

  constructor(options: {
    reactor: Reactor;
    memory: SharedMemory;
    pool: SlabPool;
    front: ArrayFront;
    /** The part of the array that is used: whole rows. */
    windowOffset: number;
    windowBytes: number;
  }) {
    this.reactor = options.reactor;
    this.memory = options.memory;
    this.pool = options.pool;
    this.windowOffset = options.windowOffset;
    this.rowCount = options.windowBytes / ROW_BYTES;
    this.generations = new Uint32Array(this.rowCount);
    this.front = options.front;
    this.handle = this.connect(options.front);
  }

  /** Goes on with the front that the array has after it was started again. */
  reconnect(front: ArrayFront): void {
    this.front = front;
    this.handle = this.connect(front);
  }

  private connect(front: ArrayFront): number {
    return front.attach((lane, status, address) => this.completed(lane, status, address));
  }

  /** Before the array stops. */
  detach(): void {
    this.front.detach(this.handle);
  }

  /** Writes every row of the window once. */
  fill(requestBytes: number): void {
    const workload: Workload = { kind: "write", isRandom: false, requestBytes, depth: 8 };
    const places = Math.floor((this.rowCount * ROW_BYTES) / requestBytes);
    this.run(workload, { warmMs: 0, measureMs: Number.POSITIVE_INFINITY, operations: places });
  }

  run(workload: Workload, limits: RunLimits, observer: RunObserver | null = null): LoadResult {
    this.observer = observer;
    this.begin(workload);
    for (let lane = 0; lane < workload.depth; lane += 1) this.start(lane);
    const result = this.turn(limits);
    this.end();
    assert(this.wrongRows === 0, `all rows read are those asked for (${this.wrongRows} are not)`);
    return result;
  }

  /** Reads rows all over the window, all of them when there are few; throws where one differs. */
  verify(rowCountMax: number): number {
    const count = Math.min(rowCountMax, this.rowCount);
    const isRandom = count < this.rowCount;
    this.isVerifying = true;
    const depth = VERIFY_DEPTH;
    const workload: Workload = { kind: "read", isRandom, requestBytes: ROW_BYTES, depth };
    this.run(workload, {
      warmMs: 0,
      measureMs: Number.POSITIVE_INFINITY,
      operations: count,
    });
    this.isVerifying = false;
    return count;
  }

  private begin(workload: Workload): void {
    const { requestBytes, depth, kind } = workload;
    assert(requestBytes % ROW_BYTES === 0 && depth <= this.placeOf.length, "the load is sound");
    this.workload = workload;
    this.placeCount = Math.floor((this.rowCount * ROW_BYTES) / requestBytes);
    assert(this.placeCount >= 2 * depth, "the window has room for the load");
    this.nextPlace = 0;
    this.busy = new Uint8Array(this.placeCount);
    this.readBuffers = this.takeBuffers(kind === "write" ? 0 : depth);
    this.writeBuffers = this.takeBuffers(kind === "read" ? 0 : depth);
    for (const [lane, address] of this.writeBuffers.entries()) {
      fillBodies(this.memory.u32, address / 4, requestBytes / ROW_BYTES, lane);
    }
    this.operations = 0;
    this.wrongRows = 0;
    this.isRunning = true;
  }

  private takeBuffers(count: number): Uint32Array {
    return Uint32Array.from({ length: count }, () => {
      const address = this.pool.allocate(this.workload.requestBytes);
      assert(address !== 0, "the pool holds the buffers of the load");
      return address;
    });
  }

  /** Turns the reactor until the limits are reached and nothing is under way. */
  private turn({ warmMs, measureMs, operations }: RunLimits): LoadResult {
    const { reactor } = this;
    const begunMs = stopwatch.nowMs();
    while (stopwatch.nowMs() - begunMs < warmMs) reactor.turn(stopwatch.turnWaitMs);
    if (warmMs > 0) this.operations = 0;
    this.observer?.latencies.clear();
    this.observer?.begin();
    const startedMs = stopwatch.nowMs();
    let endedMs = startedMs;
    while (endedMs - startedMs < measureMs && this.operations < operations) {
      reactor.turn(stopwatch.turnWaitMs);
      endedMs = stopwatch.nowMs();
    }
    const done = this.operations;
    this.observer = null;
    this.isRunning = false;
    while (this.inFlight > 0) reactor.turn(stopwatch.turnWaitMs);
    return {
      operations: done,
      bytes: done * this.workload.requestBytes,
      seconds: (endedMs - startedMs) / 1000,
    };
  }

  private end(): void {
    const { requestBytes } = this.workload;
    for (const address of this.readBuffers) this.pool.free(address, requestBytes);
    for (const address of this.writeBuffers) this.pool.free(address, requestBytes);
  }

  private start(lane: number): void {
    const { kind, requestBytes } = this.workload;
    const isWrite = kind === "write" || (kind === "mixed" && (this.random() & 1) === 1);
    let place = this.choosePlace();
    while (isWrite && this.busy[place] === 1) place = this.choosePlace();
    this.placeOf[lane] = place;
    this.isWrite[lane] = isWrite ? 1 : 0;
    this.inFlight += 1;
    const offset = this.windowOffset + place * requestBytes;
    if (this.observer !== null) this.startedNs[lane] = stopwatch.nowNs();
    if (isWrite) {
      this.busy[place] = 1;
      const address = this.writeBuffers[lane]!;
      this.stamp(place, address, lane);
      this.front.submit(this.handle, FrontOp.write, offset, requestBytes, address, 0, lane);
    } else {
      const address = this.readBuffers[lane]!;
      this.front.submit(this.handle, FrontOp.read, offset, requestBytes, address, 0, lane);
    }
  }

  private choosePlace(): number {
    if (this.workload.isRandom) return this.random() % this.placeCount;
    const place = this.nextPlace;
    this.nextPlace = place + 1 === this.placeCount ? 0 : place + 1;
    return place;
  }

  /** xorshift32. */
  private random(): number {
    let state = this.randomState;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.randomState = state;
    return state >>> 0;
  }

  private stamp(place: number, address: number, lane: number): void {
    const rows = this.workload.requestBytes / ROW_BYTES;
    this.generation = (this.generation + 1) >>> 0;
    for (let index = 0; index < rows; index += 1) {
      const row = place * rows + index;
      this.generations[row] = this.generation;
      stampRow(this.memory.u32, address / 4 + index * WORDS_PER_ROW, row, this.generation, lane);
    }
  }

  private completed(lane: number, status: number, address: number): void {
    assert(status === 0 && address === 0, "the array answers without an error");
    this.inFlight -= 1;
    this.observer?.latencies.note(stopwatch.nowNs() - this.startedNs[lane]!);
    if (this.isWrite[lane] === 1) this.busy[this.placeOf[lane]!] = 0;
    else this.check(lane);
    this.operations += 1;
    if (this.isRunning) this.start(lane);
  }

  private check(lane: number): void {
    const word = this.readBuffers[lane]! / 4;
    const row = (this.placeOf[lane]! * this.workload.requestBytes) / ROW_BYTES;
    const isGood = this.isVerifying
      ? isRowIntact(this.memory.u32, word, row, this.generations[row]!)
      : this.memory.u32[word] === row + 1;
    if (!isGood) this.wrongRows += 1;
  }
}
