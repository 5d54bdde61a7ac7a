/**
 * Linux AIO for real: the adapter behind `AioKernel`.
 *
 * Completions are taken straight from the ring that the kernel writes them to; io_getevents is for
 * kernels whose ring is laid out in another way.
 *
 * `destroy` is for a context without outstanding requests only: io_destroy waits for them, for ever
 * where one hangs (write-rules 18). At exit the process just ends.
 */

import { AioRing } from "../../ffi/aio-ring.ts";
import { baseAddressOf } from "../../ffi/arena.ts";
import { type AioBinding, openLibaio, openSyscalls } from "../../ffi/libaio.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { AioKernel } from "./kernel.ts";

export class LinuxAio implements AioKernel {
  readonly baseAddress: number;
  readonly source: AioBinding["source"];
  private readonly binding: AioBinding;
  private readonly context: number;
  private readonly memory: SharedMemory;
  private ring: AioRing | null;
  /** Two u64 of zero: io_getevents answers at once. */
  private readonly timespecPointer: number;

  private constructor(options: {
    binding: AioBinding;
    memory: SharedMemory;
    ring: AioRing | null;
    baseAddress: number;
    context: number;
    timespecPointer: number;
  }) {
    this.memory = options.memory;
    this.ring = options.ring;
    this.binding = options.binding;
    this.source = options.binding.source;
    this.baseAddress = options.baseAddress;
    this.context = options.context;
    this.timespecPointer = options.timespecPointer;
  }

  /**
   * Sets up a context for `eventCount` requests under way. The error is the positive errno of
   * io_setup: EAGAIN where the host's fs.aio-max-nr is used up, ENOSYS where it has no AIO.
   */
  static open(options: {
    memory: SharedMemory;
    carver: Carver;
    eventCount: number;
    /** "libaio" falls back to the system calls where the host has no libaio. */
    source: "libaio" | "syscall";
    /** False: completions come through io_getevents alone. */
    usesRing: boolean;
  }): Result<LinuxAio, number> {
    const { memory, carver, eventCount } = options;
    const library = options.source === "syscall" ? null : openLibaio();
    const binding = library ?? openSyscalls();
    const baseAddress = baseAddressOf(memory.memory);
    const contextAddress = carver.carve({ bytes: 8, alignment: 8 });
    const timespecAddress = carver.carve({ bytes: 16, alignment: 8 });
    const answer = binding.setup(eventCount, baseAddress + contextAddress);
    if (answer < 0) return err(-answer);
    const context = Number(memory.view.getBigUint64(contextAddress, true));
    const timespecPointer = baseAddress + timespecAddress;
    const ring = options.usesRing ? AioRing.of(context) : null;
    return ok(new LinuxAio({ binding, memory, ring, baseAddress, context, timespecPointer }));
  }

  submit(listAddress: number, count: number): number {
    return this.binding.submit(this.context, count, this.baseAddress + listAddress);
  }

  /** Completions are taken without a system call. */
  get usesRing(): boolean {
    return this.ring !== null;
  }

  get eventCount(): number {
    return this.ring === null ? 0 : this.ring.used;
  }

  getEvents(eventsAddress: number, max: number): number {
    if (this.ring !== null) return this.ring.take(this.memory.i32, eventsAddress / 4, max);
    return this.binding.getEvents(
      this.context,
      0,
      max,
      this.baseAddress + eventsAddress,
      this.timespecPointer,
    );
  }

  /** Only with no request outstanding. */
  destroy(): void {
    this.ring = null; // It is unmapped with the context.
    this.binding.destroy(this.context);
  }
}
