/**
 * The control thread's end of the wire to the reactor: a call is an envelope out and a reply in.
 *
 * Invariant: every call gets exactly one answer. When the reactor ends, the calls still open are
 * answered `stopping`, so that no caller waits for ever. Replies, events and jobs are delivered in
 * the order in which the reactor posted them.
 */
import type {
  ArrayEvent,
  CommandKind,
  CommandOf,
  CommandResult,
  Envelope,
  JobStatus,
  ReactorMessage,
} from "../array/protocol.ts";
import { assert, unreachable } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import { err } from "../base/result.ts";
import type { DriveOpener } from "./helper/drive-opener.ts";

/** A message port with its eventfd, or a fake one. */
export interface ReactorChannel {
  /** Posts on the port, then rings the eventfd that the reactor sleeps on. */
  post(envelope: Envelope): void;
  /** Registers the one listener. Called once, before the first `post`. */
  onMessage(listener: (message: ReactorMessage) => void): void;
}

type PunchHoleMessage = Extract<ReactorMessage, { kind: "punch-hole" }>;

export class ReactorClient {
  /** Resolves when the reactor's loop runs. */
  readonly ready: Promise<void>;
  private readonly channel: ReactorChannel;
  private readonly log: Log;
  private readonly opener: Pick<DriveOpener, "punchHole"> | null;
  private readonly pending = new Map<number, (result: CommandResult) => void>();
  private readonly eventListeners: ((event: ArrayEvent) => void)[] = [];
  private readonly jobListeners: ((job: JobStatus) => void)[] = [];
  private markReady: () => void = () => {};
  private nextId = 1;
  private isClosed = false;

  constructor(options: {
    channel: ReactorChannel;
    log: Log;
    /** Punches the holes that the reactor asks for; absent: it is told that there are none. */
    opener?: Pick<DriveOpener, "punchHole">;
  }) {
    const { channel } = options;
    this.channel = channel;
    this.log = options.log;
    this.opener = options.opener ?? null;
    this.ready = new Promise((resolve) => {
      this.markReady = resolve;
    });
    channel.onMessage((message) => this.receive(message));
  }

  /** Sends a command; the answer is the reactor's, or `stopping` once it has ended. */
  call<K extends CommandKind>(command: CommandOf<K>): Promise<CommandResult<K>> {
    if (this.isClosed) return Promise.resolve(err(REACTOR_ENDED));
    const id = this.nextId;
    this.nextId += 1;
    return new Promise((resolve) => {
      // The reactor answers with the value of the command's own kind: that is the protocol.
      this.pending.set(id, resolve as (result: CommandResult) => void);
      this.channel.post({ id, command: command as Envelope["command"] });
    });
  }

  onEvent(listener: (event: ArrayEvent) => void): void {
    this.eventListeners.push(listener);
  }

  onJob(listener: (job: JobStatus) => void): void {
    this.jobListeners.push(listener);
  }

  /** The reactor has ended: open calls are answered, and so is every later one. */
  close(): void {
    this.isClosed = true;
    const open = [...this.pending.values()];
    this.pending.clear();
    for (const resolve of open) resolve(err(REACTOR_ENDED));
  }

  private receive(message: ReactorMessage): void {
    switch (message.kind) {
      case "ready":
        this.markReady();
        return;
      case "reply": {
        const resolve = this.pending.get(message.id);
        assert(resolve !== undefined || this.isClosed, "the reactor answers each call once");
        this.pending.delete(message.id);
        resolve?.(message.result);
        return;
      }
      case "event":
        for (const listener of this.eventListeners) listener(message.event);
        return;
      case "job":
        for (const listener of this.jobListeners) listener(message.job);
        return;
      case "punch-hole":
        void this.punchHole(message);
        return;
      case "defect":
        // Main has ended the process.
        return;
      case "log":
        this.log.write(message.level, message.message, message.fields);
        return;
      default:
        unreachable(message);
    }
  }

  private async punchHole({ id, fd, offset, bytes }: PunchHoleMessage): Promise<void> {
    const punched = await (this.opener?.punchHole(fd, { offset, bytes }) ?? err(NO_HOLES));
    const error = punched.ok ? null : punched.error;
    await this.call({ kind: "hole-punched", id, error });
  }
}

const NO_HOLES = {
  kind: "unsupported",
  code: "no-holes",
  detail: "nobody here punches holes",
} as const;

const REACTOR_ENDED = {
  kind: "stopping",
  code: "stopping",
  detail: "parityd is stopping; try again when it has been started again",
} as const;
