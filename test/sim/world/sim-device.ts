/**
 * A simulated drive: the BlockDevice that the array's filters stand on in the simulator.
 *
 * The fault model. An array must survive what its budget allows; any failure there is a bug.
 *
 * | Fault                  | Here                                                   | Per stripe |
 * |------------------------|--------------------------------------------------------|------------|
 * | crash, power cut       | `crash`; `crash-images.ts` at every event: each sector | any number |
 * |                        | that was not flushed is kept, dropped or garbage       |            |
 * | torn write             | the same, by sectors of 512 or 4096 bytes              | any number |
 * | volatile cache,        | a flush makes durable the writes *completed before it  | any number |
 * | reordering             | was submitted*; completions come in random order       |            |
 * | flush lies             | `doesFlushLie`: answered, nothing made durable, also   | no promise |
 * |                        | of a write with FUA                                    |            |
 * | latent sector          | `addLatent`: read EIO or ENODATA until it is written   | 1 member   |
 * | EIO on write, EAGAIN,  | plans and rates of `faults` (sim-faults.ts), at        | 1 member   |
 * | EINTR, short, ENOSPC,  | completion or as refused by io_submit; which sectors   |            |
 * | ENXIO, unknown errno   | of a failed write landed is chance                     |            |
 * | slow, hung             | plans and rates; `hang` and `release` for all requests | 1 member   |
 * | no room for several    | `space` (sim-space.ts): a cause that they share, and   | all        |
 * |                        | no fault of any                                        | members    |
 * | vanishes, comes back   | `vanish`: all I/O ENXIO, the cache is lost by chance;  | 1 member   |
 * |                        | `comeBack`: the content of then                        |            |
 * | bit rot                | `rot`: the bytes change at rest, without an error      | 1 member   |
 * | lost, misdirected      | plans `lose` and `misdirect`                           | 1 member   |
 * | two members            | any of these on two                                    | 2          |
 * | reserved by another    | `reserve`: EBADE for all but reads, or for all; what   | any number |
 * | host                   | is in flight was carried out before that, or is not    |            |
 *
 * It also checks the layer above, with assertions: whole rows, inside the drive, a request
 * outstanding once, no two writes in flight over the same bytes, the buffer of a write unchanged
 * until it completes, and the buffer of a read nobody else's: it is poisoned at submit, and the
 * poison has to be there when the answer lands, however late.
 */
import { assert } from "../../../src/base/assert.ts";
import { EBADE, EIO, ENXIO, EOPNOTSUPP } from "../../../src/base/errno.ts";
import type { SharedMemory } from "../../../src/base/memory.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import type { BlockDevice, CompletionHandler } from "../../../src/block/device.ts";
import { submitFailure } from "../../../src/block/io-error.ts";
import { type IoTable, OP_NAMES, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import type { DeviceTrace } from "./device-trace.ts";
import { type DeviceImage, Fate, Media, type MediaEvent, PAGE_BYTES } from "./media.ts";
import { checkFault, type SimFault, SimFaults } from "./sim-faults.ts";
import type { SimSpace } from "./sim-space.ts";
import type { Simulation } from "./simulation.ts";

const POISON = Buffer.alloc(PAGE_BYTES, 0xd6);

/** Milliseconds of a request: at least `minMs`, and an exponential tail of mean `tailMs`. */
export interface Latency {
  readonly minMs: number;
  readonly tailMs: number;
}

export const DEFAULT_LATENCY: Latency = { minMs: 0.05, tailMs: 0.2 };

/** What becomes of each sector that was not flushed. */
export type CrashPolicy = "keep" | "drop" | "random" | "random-garbage";

export interface SimDeviceOptions {
  readonly simulation: Simulation;
  readonly table: IoTable;
  readonly memory: SharedMemory;
  /** What it holds; or the drive itself, with its cache, as another process has left it. */
  readonly image: DeviceImage | Media;
  readonly latency?: Latency;
  /** Default true. */
  readonly canDiscard?: boolean;
  /** Default true. False: what a write has completed is durable. */
  readonly hasCache?: boolean;
  readonly trace?: DeviceTrace;
}

interface InFlight {
  readonly request: number;
  /** Numbers the submission, for the media and the trace. */
  readonly id: number;
  readonly op: OpCode;
  readonly offset: number;
  readonly bytes: number;
  readonly address: number;
  readonly isFua: boolean;
  readonly fault: SimFault | null;
  /** Of a write: the bytes as they were submitted. */
  readonly copy: Uint8Array | null;
  /** Who is told instead of the reactor; null: the reactor. */
  readonly answer: ((result: number) => void) | null;
  /** The drive was gone at some time since the submit. */
  isDoomed: boolean;
  /** It came too late for the reservation of another host: nothing of it is carried out. */
  isBarred: boolean;
  /** The media know of it, and wait for its end. */
  isOnMedia: boolean;
}

/** What another host's reservation leaves to this one: "write exclusive", "exclusive access". */
export type Reservation = "reads" | "nothing";

export class SimDevice implements BlockDevice {
  onComplete: CompletionHandler = () => {};
  readonly faults: SimFaults;
  /** A flush is answered, and nothing is made durable. */
  doesFlushLie = false;
  /** Set while there is no room under it. */
  space: SimSpace | null = null;
  /** Asked at each request without a fault of its own: with which errno it is refused; 0: not. */
  refusalOf: ((op: OpCode, offset: number, bytes: number) => number) | null = null;
  private readonly simulation: Simulation;
  private readonly table: IoTable;
  private readonly memory: SharedMemory;
  private readonly media: Media;
  private readonly latency: Latency;
  private readonly canDiscard: boolean;
  readonly hasCache: boolean;
  /** Requests that would change what it holds, the same bytes again among them. */
  changeCount = 0;
  private readonly trace: DeviceTrace | null;
  private readonly traceNumber: number;
  private readonly random: SeededRandom;
  private readonly inFlight = new Map<number, InFlight>();
  /** Due, and held back because the drive or the request hangs. */
  private readonly held: InFlight[] = [];
  private nextId = 1;
  private isHung = false;
  private isGone = false;
  private isDead = false;
  private reservation: Reservation | null = null;
  /** Requests that came, reads not among them. */
  changesSubmitted = 0;

  constructor(options: SimDeviceOptions) {
    this.simulation = options.simulation;
    this.table = options.table;
    this.memory = options.memory;
    const { image } = options;
    this.media = image instanceof Media ? image : new Media(image);
    this.latency = options.latency ?? DEFAULT_LATENCY;
    this.canDiscard = options.canDiscard ?? true;
    this.hasCache = options.hasCache ?? true;
    this.trace = options.trace ?? null;
    this.traceNumber = this.trace?.join(this.media.cleanImage()) ?? 0;
    this.random = options.simulation.splitRandom();
    this.faults = new SimFaults(this.random.split());
  }

  /** A drive with the content of an image, in another simulation. */
  static fromImage(
    image: DeviceImage | Media,
    options: Omit<SimDeviceOptions, "image">,
  ): SimDevice {
    return new SimDevice({ ...options, image });
  }

  get name(): string {
    return this.media.name;
  }

  get sizeBytes(): number {
    return this.media.sizeBytes;
  }

  get logicalBlockBytes(): number {
    return this.media.logicalBlockBytes;
  }

  get outstandingCount(): number {
    return this.inFlight.size;
  }

  /** A request is out that will not go as it should. */
  get hasFaultInFlight(): boolean {
    return this.inFlight.values().some(({ fault }) => fault !== null);
  }

  submit(request: number): void {
    if (this.isDead) return; // The machine has stopped: nothing is answered any more.
    const shape = this.checkRequest(request);
    const sized = { ...shape, sectorBytes: this.media.sectorBytes };
    const fault = this.noRoomFor(shape) ?? this.faults.take(sized) ?? this.refusal(shape);
    if (fault !== null) checkFault(fault, { ...shape, sectorBytes: this.media.sectorBytes });
    const isWrite = shape.op === Op.write;
    const entry: InFlight = {
      ...shape,
      request,
      id: this.nextId,
      isFua: this.table.isFua[request] === 1 || !this.hasCache,
      fault,
      copy: isWrite ? this.memory.bytes.slice(shape.address, shape.address + shape.bytes) : null,
      answer: null,
      isDoomed: this.isGone,
      isBarred: this.isBarred(shape.op),
      isOnMedia: false,
    };
    this.nextId += 1;
    if (entry.op !== Op.read) this.changesSubmitted += 1;
    if (changesBytes(entry.op)) this.checkOverlap(entry);
    this.inFlight.set(request, entry);
    this.note("submit", entry, fault === null ? 0 : 1);
    if (entry.copy !== null) this.simulation.noteBytes(entry.copy);
    if (entry.op === Op.read) this.poison(entry);
    this.begin(entry);
  }

  /** A hole, durable when it is answered; not by a request of the reactor. */
  punch(offset: number, bytes: number, answer: (result: number) => void): void {
    if (this.isDead) return;
    const shape = { op: Op.discard, offset, bytes, address: 0 } as const;
    const fault = this.faults.take({ ...shape, sectorBytes: this.media.sectorBytes });
    const entry: InFlight = {
      ...shape,
      request: -this.nextId,
      id: this.nextId,
      isFua: true,
      fault,
      copy: null,
      answer,
      isDoomed: this.isGone,
      isBarred: this.isBarred(shape.op),
      isOnMedia: false,
    };
    this.nextId += 1;
    this.changesSubmitted += 1;
    this.checkOverlap(entry);
    this.inFlight.set(entry.request, entry);
    this.note("punch", entry, fault === null ? 0 : 1);
    this.begin(entry);
  }

  /** Reads of this 512-byte sector fail until it is written. */
  addLatent(offset: number, errno: number = EIO): void {
    assert(offset % SECTOR_BYTES === 0, "sectors go bad as a whole");
    this.change({ kind: "latent", sector: offset / SECTOR_BYTES, errno });
    this.faults.count("latent");
  }

  /** Changes bytes at rest, without a sign. */
  rot(offset: number, bytes: number): void {
    this.change({ kind: "rot", offset, length: bytes });
    this.faults.count("rot");
  }

  /** Nothing is answered from now on, until `release`. */
  hang(): void {
    this.isHung = true;
    this.faults.count("hang");
  }

  /** Everything that hung is answered now, in the order in which it was due. */
  release(): void {
    this.isHung = false;
    for (const entry of this.held.splice(0)) {
      this.simulation.scheduleAfter(0, () => this.finish(entry));
    }
  }

  /** The drive is unplugged. What its cache held is kept or lost, sector by sector. */
  vanish(policy: CrashPolicy = "random"): void {
    this.change({ kind: "reset", image: this.powerCut(policy) });
    this.isGone = true;
    for (const entry of this.inFlight.values()) entry.isDoomed = true;
    this.faults.count("vanish");
    this.release();
  }

  /** It is plugged in again, with what it had when it went. */
  comeBack(): void {
    this.isGone = false;
  }

  /** Another host takes the drive; null: it lets go of it. */
  reserve(reservation: Reservation | null): void {
    this.reservation = reservation;
    if (reservation === null) return;
    this.faults.count("reserved");
    for (const entry of this.inFlight.values()) {
      if (this.isBarred(entry.op) && this.coin() === 0) entry.isBarred = true;
    }
  }

  private isBarred(op: OpCode): boolean {
    return this.reservation === "nothing" || (this.reservation === "reads" && op !== Op.read);
  }

  /** The machine stops. The drive answers nothing any more; the image is what it holds. */
  crash(policy: CrashPolicy): DeviceImage {
    const image = this.powerCut(policy);
    this.isDead = true;
    this.simulation.note(`crash ${this.name}`);
    return image;
  }

  /**
   * The process that uses it ends, and the machine goes on: what was in flight lands, and nobody is
   * told. The answer is the drive for the next process, with what its cache holds.
   */
  handOver(): Media {
    this.isDead = true;
    for (const { op, id, isFua, isDoomed, fault } of this.inFlight.values()) {
      if (isDoomed || fault?.kind === "refuse") continue;
      if (op === Op.flush) this.media.apply({ kind: "flush-complete", flush: id });
      else if (changesBytes(op)) {
        this.media.apply({ kind: "complete", write: id, landed: null, isFua });
      }
    }
    this.inFlight.clear();
    return this.media;
  }

  /** What it holds now, had everything completed been written back. */
  image(): DeviceImage {
    return this.media.cleanImage();
  }

  /** Whether every page of a range has been written: a sparse file has no room for others. */
  isStored(offset: number, bytes: number): boolean {
    return this.media.isStored(offset, bytes);
  }

  /** A page of that. */
  page(index: number): Uint8Array {
    return this.media.cleanPage(index);
  }

  /** Checks the buffers of all requests that are out: for the end of a run with hung ones. */
  checkBuffers(): void {
    for (const entry of this.inFlight.values()) this.checkBuffer(entry);
  }

  private powerCut(policy: CrashPolicy): DeviceImage {
    const pending = this.media.pendingSectors();
    const fateOf = (index: number): number => {
      const { candidates } = pending[index]!;
      if (policy === "keep") return candidates.length - 1;
      if (policy === "drop") return Fate.durable;
      const extra = policy === "random-garbage" ? 2 : 1;
      return nextBelow(this.random, candidates.length + extra) - extra;
    };
    return this.media.crashImage(pending, (index) => toFate(fateOf(index)), this.random);
  }

  private noRoomFor({ op, offset, bytes }: Pick<InFlight, "op" | "offset" | "bytes">) {
    if (this.space === null || !changesBytes(op) || op === Op.discard) return null;
    const refusal = this.space.take({ isHole: this.media.hasHole(offset, bytes) });
    if (refusal !== null) this.faults.count("no room");
    return refusal;
  }

  private checkRequest(request: number) {
    const { table } = this;
    const op = table.op[request] as OpCode;
    const offset = table.offset[request]!;
    const bytes = table.bytes[request]!;
    const address = table.address[request]!;
    assert(!this.inFlight.has(request), "a request is outstanding once");
    if (changesBytes(op)) this.changeCount += 1;
    if (op === Op.flush) return { op, offset: 0, bytes: 0, address: 0 };
    assert(bytes > 0 && bytes % ROW_BYTES === 0, "requests are whole rows");
    assert(offset >= 0 && offset % ROW_BYTES === 0, "requests begin on a row");
    assert(offset + bytes <= this.sizeBytes, "requests lie on the drive");
    if (op === Op.read || op === Op.write) {
      assert(address > 0 && address % ROW_BYTES === 0, "buffers begin on a row");
      assert(address + bytes <= this.memory.bytes.length, "buffers lie in the memory");
    }
    return { op, offset, bytes, address };
  }

  private refusal(shape: { op: OpCode; offset: number; bytes: number }): SimFault | null {
    const errno = this.refusalOf?.(shape.op, shape.offset, shape.bytes) ?? 0;
    return errno === 0 ? null : { kind: "dead", errno };
  }

  private checkOverlap(entry: InFlight): void {
    for (const other of this.inFlight.values()) {
      if (!changesBytes(other.op)) continue;
      const isApart =
        other.offset >= entry.offset + entry.bytes || entry.offset >= other.offset + other.bytes;
      assert(isApart, `${this.name}: no two writes in flight overlap (at ${entry.offset})`);
    }
  }

  private begin(entry: InFlight): void {
    const { fault } = entry;
    const delayMs =
      this.latency.minMs +
      this.latency.tailMs * -Math.log(1 - nextFraction(this.random)) +
      (fault?.kind === "slow" ? fault.delayMs : 0);
    const isTaken = fault?.kind !== "refuse" && !entry.isDoomed && !entry.isBarred;
    if (isTaken) this.beginOnMedia(entry);
    if (fault?.kind === "hang") this.held.push(entry);
    else this.simulation.scheduleAfter(delayMs, () => this.finish(entry));
  }

  private beginOnMedia(entry: InFlight): void {
    const { op, id, bytes, fault } = entry;
    if (op === Op.flush) this.change({ kind: "flush-submit", flush: id });
    if (!this.reachesMedia(entry)) return;
    const offset = fault?.kind === "misdirect" ? fault.toOffset : entry.offset;
    entry.isOnMedia = true;
    this.change({ kind: "submit", write: id, offset, length: bytes, bytes: entry.copy });
  }

  private reachesMedia(entry: InFlight): boolean {
    if (entry.op === Op.discard && !this.canDiscard) return false;
    const { kind } = entry.fault ?? {};
    return changesBytes(entry.op) && kind !== "lose" && kind !== "dead";
  }

  private finish(entry: InFlight): void {
    if (this.isDead) return;
    if (this.isHung) {
      this.held.push(entry);
      return;
    }
    this.checkBuffer(entry);
    const result = this.carryOut(entry);
    this.inFlight.delete(entry.request);
    this.note("complete", entry, result);
    if (entry.answer === null) this.onComplete(entry.request, result);
    else entry.answer(result);
  }

  /** The answer, after its effect on the drive and on the buffer. */
  private carryOut(entry: InFlight): number {
    const { op, fault, bytes } = entry;
    if (fault?.kind === "refuse") return submitFailure(fault.errno);
    if (entry.isDoomed) return -ENXIO;
    if (entry.isBarred) return this.turnAway(entry);
    if (fault?.kind === "dead") return -fault.errno;
    const result = fault?.kind === "result" ? fault.result : op === Op.flush ? 0 : bytes;
    if (op === Op.read) return this.carryOutRead(entry, result);
    if (op === Op.flush) {
      if (result === 0 && !this.doesFlushLie) {
        this.change({ kind: "flush-complete", flush: entry.id });
      }
      return result;
    }
    if (op === Op.discard && !this.canDiscard) return -EOPNOTSUPP;
    if (this.reachesMedia(entry)) {
      // Without a cache there is no other place for the part of a failed write that landed.
      const isDurable = !this.hasCache || (entry.isFua && result > 0);
      this.change({
        kind: "complete",
        write: entry.id,
        landed: this.landed(entry, result),
        isFua: isDurable && !this.doesFlushLie,
      });
    }
    return result;
  }

  /** Nothing of it lands, also where it was on its way when the reservation came. */
  private turnAway(entry: InFlight): number {
    if (entry.isOnMedia) {
      const landed = new Uint8Array(entry.bytes / this.media.sectorBytes);
      this.change({ kind: "complete", write: entry.id, landed, isFua: false });
    }
    return this.coin() === 0 ? -EBADE : submitFailure(EBADE);
  }

  /** Null: all of it. Of a short write the part that was moved; of a failed one, by chance. */
  private landed(entry: InFlight, result: number): Uint8Array | null {
    if (result >= entry.bytes) return null;
    const { sectorBytes } = this.media;
    const landed = new Uint8Array(entry.bytes / sectorBytes);
    if (result >= 0) landed.fill(1, 0, result / sectorBytes);
    else for (let index = 0; index < landed.length; index += 1) landed[index] = this.coin();
    return landed;
  }

  private coin(): number {
    return nextBelow(this.random, 2);
  }

  private carryOutRead(entry: InFlight, planned: number): number {
    const { offset, bytes, address } = entry;
    const latentErrno = this.media.latentErrno(offset, bytes);
    const result = latentErrno === 0 ? planned : -latentErrno;
    const movedBytes = Math.min(Math.max(result, 0), bytes);
    const target = new Uint8Array(PAGE_BYTES);
    for (let at = 0; at < movedBytes; at += PAGE_BYTES) {
      this.media.readPage((offset + at) / PAGE_BYTES, target, this.random);
      const part = Math.min(PAGE_BYTES, movedBytes - at);
      this.memory.bytes.set(part === PAGE_BYTES ? target : target.subarray(0, part), address + at);
    }
    return result;
  }

  private poison(entry: InFlight): void {
    for (let at = 0; at < entry.bytes; at += PAGE_BYTES) {
      this.memory.bytes.set(POISON, entry.address + at);
    }
  }

  private checkBuffer(entry: InFlight): void {
    const { memory } = this;
    if (entry.copy !== null) {
      const now = memory.bytes.subarray(entry.address, entry.address + entry.bytes);
      const isUnchanged = Buffer.compare(entry.copy, now) === 0;
      assert(isUnchanged, `${this.name}: the buffer of a write in flight does not change`);
    }
    if (entry.op !== Op.read) return;
    for (let at = entry.address; at < entry.address + entry.bytes; at += PAGE_BYTES) {
      const isPoison = POISON.compare(memory.bytes.subarray(at, at + PAGE_BYTES)) === 0;
      assert(isPoison, `${this.name}: the buffer of a read in flight is nobody else's`);
    }
  }

  private change(event: MediaEvent): void {
    this.media.apply(event);
    this.trace?.record(this.traceNumber, event);
  }

  private note(what: string, entry: InFlight, value: number): void {
    const { simulation } = this;
    simulation.note(
      `${what} ${this.name} ${OP_NAMES[entry.op]}`,
      entry.offset,
      entry.bytes,
      entry.isFua ? 1 : 0,
      value,
    );
  }
}

function changesBytes(op: OpCode): boolean {
  return op === Op.write || op === Op.writeZeroes || op === Op.discard;
}

/** -1 and -2 of a draw are the fates with names. */
function toFate(drawn: number): number {
  if (drawn === -1) return Fate.durable;
  return drawn === -2 ? Fate.garbage : drawn;
}
