/**
 * The control thread's end of the helper thread, which makes the calls that can block.
 *
 * Calls run one at a time. A call past its deadline is answered with an error, so that it fails its
 * own drive only: the stuck thread is left behind, and a fresh one takes the calls that wait. What
 * a stuck thread opens after all is closed again, and then it ends. There is a limit to how many
 * may be stuck; beyond it every call is refused until one comes back.
 */
import type { CommandError, OpenDrive } from "../array/protocol.ts";
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { DriveOpener, OpenRequest } from "./drive-opener.ts";
import type {
  DeviceInUse,
  HelperCall,
  HelperCallKind,
  HelperEnvelope,
  HelperReply,
  HelperResult,
  OpenedDevice,
} from "./helper-protocol.ts";

const DEADLINE_MS = 30_000;
const STUCK_MAX = 8;

/** A helper thread. Only main makes workers, so it is passed in. */
export interface HelperThread {
  post(envelope: HelperEnvelope): void;
  onReply(listener: (reply: HelperReply) => void): void;
  terminate(): void;
}

interface PendingCall {
  readonly call: HelperCall;
  /** What the call is about, for the message of a missed deadline. */
  readonly subject: string;
  readonly resolve: (result: HelperResult) => void;
}

interface RunningCall extends PendingCall {
  readonly id: number;
  readonly thread: HelperThread;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Helper implements DriveOpener {
  private readonly startThread: () => HelperThread;
  private readonly deadlineMs: number;
  private readonly waiting: PendingCall[] = [];
  /** By the fd of the drive. */
  private readonly openDevices = new Map<number, OpenedDevice>();
  /** Threads that missed a deadline, with the call that they are in. */
  private readonly stuck = new Map<HelperThread, HelperCall>();
  private idleThread: HelperThread | null = null;
  private running: RunningCall | null = null;
  private nextId = 1;

  constructor(options: { startThread: () => HelperThread; deadlineMs?: number }) {
    this.startThread = options.startThread;
    this.deadlineMs = options.deadlineMs ?? DEADLINE_MS;
  }

  /** Opens and locks a drive. `busy` where anybody has it already, this daemon included. */
  async open(request: OpenRequest): Promise<Result<OpenDrive, CommandError>> {
    // Calls run in order, so the list of open devices is taken when this one's turn comes.
    const result = await this.call(
      "open",
      { kind: "open", open: request, inUse: [] },
      request.path,
    );
    return result.ok ? ok(result.value.drive) : result;
  }

  /** Closes what `open` opened, and releases its locks. */
  async close(fd: number): Promise<void> {
    const device = this.openDevices.get(fd);
    assert(device !== undefined, "only an open drive is closed");
    const fds = [fd, ...device.lockFds];
    await this.call("close", { kind: "close", fds }, device.drive.path);
  }

  async punchHole(
    fd: number,
    range: { offset: number; bytes: number },
  ): Promise<Result<null, CommandError>> {
    const path = this.openDevices.get(fd)?.drive.path ?? `fd ${fd}`;
    return await this.call("punch-hole", { kind: "punch-hole", fd, ...range }, path);
  }

  /** Ends the idle thread. Stuck ones end with the process. */
  stop(): void {
    this.idleThread?.terminate();
    this.idleThread = null;
  }

  private call<K extends HelperCallKind>(
    _kind: K,
    call: Extract<HelperCall, { kind: K }>,
    subject: string,
  ): Promise<HelperResult<K>> {
    return new Promise((resolve) => {
      // The helper answers with the value of the call's own kind: that is the protocol.
      const settle = resolve as (result: HelperResult) => void;
      this.waiting.push({ call, subject, resolve: settle });
      this.runNext();
    });
  }

  private runNext(): void {
    while (this.running === null) {
      const next = this.waiting.shift();
      if (next === undefined) return;
      if (this.stuck.size >= STUCK_MAX) {
        next.resolve(err(tooManyStuck(next.subject)));
        continue;
      }
      this.run(next);
    }
  }

  private run({ call: asked, subject, resolve }: PendingCall): void {
    const call = asked.kind === "open" ? { ...asked, inUse: this.devicesInUse() } : asked;
    const thread = this.idleThread ?? this.newThread();
    this.idleThread = null;
    const id = this.nextId;
    this.nextId += 1;
    const timer = setTimeout(() => this.missDeadline(), this.deadlineMs);
    this.running = { call, subject, resolve, id, thread, timer };
    thread.post({ id, call });
  }

  private newThread(): HelperThread {
    const thread = this.startThread();
    thread.onReply((reply) => this.receive(thread, reply));
    return thread;
  }

  private receive(thread: HelperThread, reply: HelperReply): void {
    const { running } = this;
    if (running?.thread !== thread) {
      this.receiveLate(thread, reply);
      return;
    }
    assert(reply.id === running.id, "a helper answers the call that it was given");
    clearTimeout(running.timer);
    this.running = null;
    this.idleThread = thread;
    this.remember(running.call, reply.result);
    running.resolve(reply.result);
    this.runNext();
  }

  private remember(call: HelperCall, result: HelperResult): void {
    if (!result.ok) return;
    if (call.kind === "close") this.openDevices.delete(call.fds[0]!);
    if (call.kind === "open") {
      const device = result.value as OpenedDevice;
      this.openDevices.set(device.drive.fd, device);
    }
  }

  private missDeadline(): void {
    const { running } = this;
    if (running === null) return;
    this.stuck.set(running.thread, running.call);
    this.running = null;
    running.resolve(err(missedDeadline(running.subject, this.deadlineMs)));
    this.runNext();
  }

  /** A stuck thread came back: what it opened is closed again, and the thread ends. */
  private receiveLate(thread: HelperThread, { result }: HelperReply): void {
    const call = this.stuck.get(thread);
    if (call === undefined) return;
    if (call.kind === "open" && result.ok) {
      const device = result.value as OpenedDevice;
      const close: HelperCall = { kind: "close", fds: [device.drive.fd, ...device.lockFds] };
      this.stuck.set(thread, close);
      thread.post({ id: 0, call: close });
      return;
    }
    this.remember(call, result);
    this.stuck.delete(thread);
    thread.terminate();
  }

  private devicesInUse(): DeviceInUse[] {
    return [...this.openDevices.values()].flatMap(({ drive, identities }) =>
      identities.map((identity) => ({ identity, drive: drive.name })),
    );
  }
}

function missedDeadline(path: string, deadlineMs: number): CommandError {
  const detail = `${path} did not answer within ${deadlineMs / 1000} s; check the drive and its cable`;
  return { kind: "io", code: "drive-timeout", detail };
}

function tooManyStuck(path: string): CommandError {
  const detail = `${path} was not touched: ${STUCK_MAX} other drives do not answer; remove those first`;
  return { kind: "io", code: "drives-stuck", detail };
}
