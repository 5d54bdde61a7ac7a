/**
 * Linux AIO for real: the adapter behind `AioKernel`.
 *
 * `destroy` is for a context without outstanding requests only: io_destroy waits for them, for ever
 * where one hangs (write-rules 18). At exit the process just ends.
 */

import { Arena, baseAddressOf } from "../../ffi/arena.ts";
import { type AioBinding, openLibaio, openSyscalls } from "../../ffi/libaio.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { AioKernel } from "./kernel.ts";

export class LinuxAio implements AioKernel {
  readonly baseAddress: number;
  readonly source: AioBinding["source"];
  private readonly binding: AioBinding;
  private readonly context: number;
  /** Two u64 of zero: io_getevents answers at once. */
  private readonly timespecPointer: number;

  private constructor(options: {
    binding: AioBinding;
    baseAddress: number;
    context: number;
    timespecPointer: number;
  }) {
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
    source?: "libaio" | "syscall";
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
    return ok(new LinuxAio({ binding, baseAddress, context, timespecPointer }));
  }

  /** Whether the host offers AIO now: 0, or the positive errno of io_setup. For the start-up. */
  static probe(eventCount: number): number {
    const binding = openLibaio() ?? openSyscalls();
    const arena = new Arena(4096);
    const answer = binding.setup(eventCount, arena.baseAddress);
    if (answer < 0) return -answer;
    binding.destroy(Number(arena.view.getBigUint64(0, true)));
    return 0;
  }

  submit(listAddress: number, count: number): number {
    return this.binding.submit(this.context, count, this.baseAddress + listAddress);
  }

  getEvents(eventsAddress: number, max: number): number {
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
    this.binding.destroy(this.context);
  }
}
