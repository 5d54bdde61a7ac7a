/**
 * Messages between the control thread and the reactor, as the reactor sees them; its eventfds; and
 * what a loop that never returns owes the engine.
 *
 * The control thread posts, then writes an eventfd. `onmessage` never fires in a loop that does not
 * return, so the reactor takes messages when the eventfd wakes it.
 */
import { drainMicrotasks } from "bun:jsc";
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { EventFdFlag } from "../../ffi/structs.ts";
import { assert } from "../base/assert.ts";
import { errnoName } from "../base/errno.ts";
import type { LoopHost } from "./reactor.ts";

export class PortMailbox<Incoming, Outgoing> {
  private readonly port: MessagePort;

  constructor(port: MessagePort) {
    this.port = port;
  }

  /** The next message, or undefined when there is none. */
  receive(): Incoming | undefined {
    return receiveMessageOnPort(this.port)?.message as Incoming | undefined;
  }

  post(message: Outgoing): void {
    this.port.postMessage(message);
  }
}

/** An eventfd: non-blocking, close-on-exec. */
export function openEventFd(): number {
  const fd = libc.eventfd(0, EventFdFlag.nonBlock | EventFdFlag.closeOnExec);
  assert(
    fd >= 0,
    `the process can open an eventfd (${fd < 0 ? errnoName(lastErrno()) : "no error"})`,
  );
  return fd;
}

export const linuxLoopHost: LoopHost = {
  drainMicrotasks,
  yieldToEngine: () => new Promise((resolve) => setImmediate(resolve)),
};
