/**
 * A real reactor on the test's own thread: real libaio, sockets and timers, files in a temporary
 * directory opened with O_DIRECT. Nothing runs between turns, so a test drives the loop with
 * `pumpUntil` and sees every step.
 *
 * One memory per test process: engines give fast bounds checks to only a few. Its control area is
 * carved anew by each reactor, so nothing may be under way in one when the next one is started.
 */
import {
  closeSync,
  constants,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { OpenDrive, ReactorMessage } from "../../src/array/protocol.ts";
import type { ReactorContext } from "../../src/array/reactor-context.ts";
import { assert } from "../../src/base/assert.ts";
import { silentLog } from "../../src/base/log.ts";
import { CONTROL_BYTES, createMemory } from "../../src/base/memory.ts";
import { MIB } from "../../src/base/units.ts";
import { openEventFd } from "../../src/reactor/linux-mailbox.ts";
import { createLinuxReactor, type LinuxReactor } from "../../src/wiring/linux-context.ts";
import { TEST_LIMIT_MS } from "./test-limit.ts";

const POOL_BYTES = 64 * MIB;
let processMemory: WebAssembly.Memory | undefined;

/** The one shared memory of this test process, with a pool of 64 MiB. */
export function testMemory(): { memory: WebAssembly.Memory; poolBytes: number } {
  processMemory ??= createMemory(POOL_BYTES);
  return { memory: processMemory, poolBytes: POOL_BYTES };
}

/** Wakes whoever watches the eventfd, as the control thread does. */
export function ringEventFd(fd: number): void {
  writeSync(fd, new BigUint64Array([1n]));
}

export interface TestReactor extends LinuxReactor {
  readonly context: ReactorContext;
  /** What the service posted to the control thread. */
  readonly messages: ReactorMessage[];
  /** Makes a file of `sizeBytes` and opens it with O_DIRECT. */
  createDrive(options: { name: string; sizeBytes: number; directory?: string }): OpenDrive;
  /** Turns until `isDone`; throws after `timeoutMs` (default: what a test may take). */
  pumpUntil(isDone: () => boolean, timeoutMs?: number): void;
  /** Turns until the promise settles, and gives its value. */
  pump<T>(promise: Promise<T>, timeoutMs?: number): T;
  /** Rings the wake eventfd, as the control thread does. */
  wake(): void;
  /** Closes the files and removes them. */
  stop(): void;
}

export function startTestReactor(
  options: {
    directory?: string;
    onWake?: () => void;
    aioSource?: "libaio" | "syscall";
    usesAioRing?: boolean;
  } = {},
): TestReactor {
  const parent = options.directory ?? "/tmp";
  let directory: string | undefined;
  const fds: number[] = [];
  const messages: ReactorMessage[] = [];
  const wakeFd = openEventFd();
  // Carved anew by each reactor of this process, which counts on fresh memory.
  new Uint8Array(testMemory().memory.buffer, 0, CONTROL_BYTES).fill(0);
  const built = createLinuxReactor({
    config: {
      ...testMemory(),
      wakeFd,
      firstJobId: 1,
      allowFaultInjection: true,
      autoAssemble: true,
    },
    log: silentLog,
    post: (message) => messages.push(message),
    onWake: options.onWake ?? (() => {}),
    aioSource: options.aioSource ?? "libaio",
    usesAioRing: options.usesAioRing ?? true,
  });
  assert(built.ok, "the host has AIO");
  const { reactor, aio, eventFd, queue } = built.value;

  function pumpUntil(isDone: () => boolean, timeoutMs = TEST_LIMIT_MS): void {
    const deadlineMs = performance.now() + timeoutMs;
    while (!isDone()) {
      assert(performance.now() < deadlineMs, `the reactor got there within ${timeoutMs} ms`);
      reactor.turn(10);
    }
  }

  function pump<T>(promise: Promise<T>, timeoutMs?: number): T {
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
    promise.then(
      (value) => {
        outcome = { value };
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
    pumpUntil(() => outcome !== undefined, timeoutMs);
    if (outcome !== undefined && "value" in outcome) return outcome.value;
    throw outcome?.error;
  }

  function createDrive(drive: { name: string; sizeBytes: number; directory?: string }): OpenDrive {
    directory ??= mkdtempSync(join(parent, "parityd-test-"));
    const path = join(drive.directory ?? directory, drive.name);
    const { O_RDWR, O_CREAT, O_DIRECT } = constants;
    const fd = openSync(path, O_RDWR | O_CREAT | O_DIRECT, 0o600);
    fds.push(fd);
    ftruncateSync(fd, drive.sizeBytes);
    return {
      name: drive.name,
      path,
      fd,
      sizeBytes: drive.sizeBytes,
      logicalBlockBytes: 512,
      isDirect: true,
      isReadOnly: false,
      isRotational: false,
      hasVolatileCache: true,
      readsZeros: true,
      signature: null,
    };
  }

  function stop(): void {
    pumpUntil(() => queue.outstandingTotal === 0);
    aio.destroy();
    for (const fd of fds) closeSync(fd);
    closeSync(wakeFd);
    closeSync(eventFd);
    if (directory !== undefined) rmSync(directory, { recursive: true });
  }

  const wake = () => ringEventFd(wakeFd);
  return { ...built.value, messages, createDrive, pumpUntil, pump, wake, stop };
}
