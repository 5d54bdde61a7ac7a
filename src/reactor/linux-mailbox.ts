/** A MessagePort as a mailbox, eventfds, and what a loop that never returns owes the engine. */
import { drainMicrotasks } from "bun:jsc";
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { EventFdFlag } from "../../ffi/structs.ts";
import { assert } from "../base/assert.ts";
import { errnoName } from "../base/errno.ts";
import type { Mailbox } from "./mailbox.ts";
import type { LoopHost } from "./reactor.ts";

export class PortMailbox<Incoming, Outgoing> implements Mailbox<Incoming, Outgoing> {
  private readonly port: MessagePort;

  constructor(port: MessagePort) {
    this.port = port;
  }

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

/** Wakes whoever watches the eventfd. The counter is never read: watchers ask for edges. */
export function ringEventFd(fd: number): void {
  const one = new Uint8Array(8);
  one[0] = 1;
  libc.write(fd, one, one.length);
}

export function closeEventFd(fd: number): void {
  libc.close(fd);
}

export const linuxLoopHost: LoopHost = {
  drainMicrotasks,
  yieldToEngine: () => new Promise((resolve) => setImmediate(resolve)),
};
