/**
 * Bindings of Linux AIO: libaio where the host has it, else the same four system calls through
 * libc's `syscall`. Either way the answers are counts or -errno.
 *
 * Debian and Ubuntu renamed the library in the 64-bit time transition (libaio.so.1t64).
 */
import type { Address } from "./arena.ts";
import { lastErrno, libc, openFirst } from "./libc.ts";
import { AioSyscall } from "./structs.ts";

const LIBRARY_NAMES = ["libaio.so.1", "libaio.so.1t64"];

export interface AioBinding {
  readonly source: "libaio" | "syscall";
  /** Writes the context (a pointer) to `contextAddress`. */
  setup(eventCount: number, contextAddress: number): number;
  destroy(context: number): number;
  submit(context: number, count: number, listAddress: number): number;
  getEvents(
    context: number,
    min: number,
    max: number,
    eventsAddress: number,
    timespecAddress: number,
  ): number;
}

interface Libaio {
  io_setup(eventCount: number, contextAddress: Address): number;
  io_destroy(context: number): number;
  io_submit(context: number, count: number, listAddress: number): number;
  io_getevents(context: number, min: number, max: number, events: number, time: number): number;
}

/** libaio, or null where the host has none. */
export function openLibaio(): AioBinding | null {
  const symbols = openFirst(LIBRARY_NAMES, {
    io_setup: { args: ["i32", "ptr"], returns: "i32" },
    io_destroy: { args: ["ptr"], returns: "i32" },
    io_submit: { args: ["ptr", "usize", "ptr"], returns: "i32" },
    io_getevents: { args: ["ptr", "usize", "usize", "ptr", "ptr"], returns: "i32" },
  });
  if (symbols === null) return null;
  const library = symbols as Libaio;
  return {
    source: "libaio",
    setup: library.io_setup,
    destroy: library.io_destroy,
    submit: library.io_submit,
    getEvents: library.io_getevents,
  };
}

function viaSyscall(n: number, a: number, b: number, c: number, d: number, e: number): number {
  const answer = Number(libc.syscall(n, a, b, c, d, e));
  return answer === -1 ? -lastErrno() : answer;
}

/** The system calls themselves. */
export function openSyscalls(): AioBinding {
  return {
    source: "syscall",
    setup(eventCount, contextAddress) {
      return viaSyscall(AioSyscall.setup, eventCount, contextAddress, 0, 0, 0);
    },
    destroy(context) {
      return viaSyscall(AioSyscall.destroy, context, 0, 0, 0, 0);
    },
    submit(context, count, listAddress) {
      return viaSyscall(AioSyscall.submit, context, count, listAddress, 0, 0);
    },
    getEvents(context, min, max, eventsAddress, timespecAddress) {
      return viaSyscall(AioSyscall.getEvents, context, min, max, eventsAddress, timespecAddress);
    },
  };
}
