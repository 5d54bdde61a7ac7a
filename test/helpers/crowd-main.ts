/**
 * A crowd of clients of the API, in a process of its own with the least claim to a CPU: what they
 * cost themselves is not what they are to show.
 *
 *   bun test/helpers/crowd-main.ts '{"unix":"/run/api.sock","idle":1000,"busy":200,"pages":300}'
 *
 * | who  | what it does, as real ones do                                                        |
 * |------|--------------------------------------------------------------------------------------|
 * | idle | holds its connection; asks for /v1/log every 10 s, as what keeps one alive does       |
 * | busy | a read per second, one after the other of READS; each fifth follows the events also  |
 * | page | /v1/status each second and the events, as `src/page/store.ts` does                    |
 *
 * Who is dropped or refused comes again after a second. Each second it prints its counts as a line
 * of JSON, and it ends with its stdin.
 */
import { setPriority } from "node:os";

export interface CrowdOptions {
  readonly unix?: string;
  readonly port?: number;
  readonly token?: string;
  readonly idle: number;
  readonly busy: number;
  readonly pages: number;
}

export interface CrowdCounts {
  /** Clients that hold their connections now: streams of events, too, where they follow them. */
  readonly connected: number;
  /** Clients that have been answered at least once. */
  readonly served: number;
  readonly answers: number;
  readonly statuses: number;
  /** Streams that are open now, and events that came over all of them. */
  readonly streams: number;
  readonly events: number;
  /** Answered 503 `too-many-connections`. */
  readonly refused: number;
  /** Connections that ended without a problem as an answer, and before their time between two. */
  readonly dropped: number;
  /** Of what was dropped, and of answers that are not 200, the first few. */
  readonly wrong: readonly string[];
}

const READS = [
  "/v1/arrays",
  "/v1/drives",
  "/v1/exports",
  "/v1/jobs",
  "/v1/events?since=0&limit=20",
];
const IDLE_MS = 10_000;
const BUSY_MS = 1_000;
const AGAIN_MS = 1_000;
/** Less than a connection is given between two requests: this process may be late itself. */
const IDLE_ENDS_MS = 14_000;
const WRONG_MAX = 5;

const options = JSON.parse(process.argv[2] ?? "{}") as CrowdOptions;
const counts = { answers: 0, statuses: 0, events: 0, refused: 0, dropped: 0 };
const wrong: string[] = [];
const served = new Set<number>();
const lines = new Set<Line>();

type Socket = Bun.Socket<undefined>;

/** One connection, with one request after another, or with a stream. */
class Line {
  private readonly client: number;
  private readonly paths: readonly string[];
  private readonly everyMs: number;
  private readonly isStream: boolean;
  private socket: Socket | null = null;
  private turn = 0;
  private rest = "";
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isAsking = false;
  private askedMs = 0;
  private answeredMs = 0;
  isOpen = false;

  constructor(client: number, paths: readonly string[], everyMs: number | null) {
    this.client = client;
    this.paths = paths;
    this.everyMs = everyMs ?? 0;
    this.isStream = everyMs === null;
    lines.add(this);
    // Not all in the same moment: nobody opens 300 pages at once.
    this.later(Math.random() * (everyMs === null ? BUSY_MS : everyMs) * 0.8);
  }

  get isFollowing(): boolean {
    return this.isStream && this.isOpen;
  }

  private later(afterMs: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), afterMs);
  }

  private ask(): void {
    if (this.socket === null) {
      void this.connect();
      return;
    }
    const path = this.paths[this.turn % this.paths.length]!;
    this.turn += 1;
    this.isAsking = true;
    this.askedMs = performance.now();
    const accept = this.isStream ? "text/event-stream" : "application/json";
    const token = options.token === undefined ? "" : `Authorization: Bearer ${options.token}\r\n`;
    this.socket.write(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: ${accept}\r\n${token}\r\n`,
    );
    if (path === "/v1/status") counts.statuses += 1;
  }

  private async connect(): Promise<void> {
    const socket = {
      open: (opened: Socket): void => {
        this.socket = opened;
        this.ask();
      },
      data: (_: Socket, bytes: Buffer): void => this.take(bytes),
      close: (): void => this.closed(),
      error: (): void => {},
    };
    const { unix, port } = options;
    try {
      if (unix !== undefined) await Bun.connect({ unix, socket });
      else await Bun.connect({ hostname: "127.0.0.1", port: port ?? 0, socket });
    } catch {
      // More than the listener's queue holds came in one moment, as they do where this process was
      // kept from running.
      this.later(AGAIN_MS);
    }
  }

  private closed(): void {
    // Where this process comes to ask too late, that is no fault of the daemon's.
    const untilMs = this.isAsking ? this.askedMs : performance.now();
    const silentMs = untilMs - this.answeredMs;
    const isExpired = this.answeredMs > 0 && silentMs > IDLE_ENDS_MS;
    if (this.isOpen && !isExpired) this.dropped(silentMs);
    this.isOpen = false;
    this.socket = null;
    this.rest = "";
    this.later(AGAIN_MS);
  }

  private dropped(silentMs: number): void {
    counts.dropped += 1;
    if (wrong.length >= WRONG_MAX) return;
    const what = this.isAsking ? "asking" : "silent";
    wrong.push(`dropped: ${this.paths[0]}, ${what}, turn ${this.turn}, ${Math.round(silentMs)} ms`);
  }

  private take(bytes: Buffer): void {
    if (this.isFollowing) {
      counts.events += bytes.toString("latin1").split("\ndata: ").length - 1;
      return;
    }
    this.rest += bytes.toString("latin1");
    const head = this.rest.indexOf("\r\n\r\n");
    if (head < 0) return;
    const status = Number(this.rest.slice(9, 12));
    const length = /\r\ncontent-length: (\d+)/i.exec(this.rest.slice(0, head))?.[1];
    if (length !== undefined && this.rest.length < head + 4 + Number(length)) return;
    const answer = this.rest;
    this.rest = "";
    this.answered(status, answer);
  }

  private answered(status: number, answer: string): void {
    this.isAsking = this.isStream;
    this.answeredMs = performance.now();
    if (status === 200) {
      counts.answers += 1;
      served.add(this.client);
      this.isOpen = true;
      if (!this.isStream) this.later(this.everyMs);
      return;
    }
    // A refusal may end the connection: that is no drop then.
    this.isOpen = false;
    if (status === 503 && answer.includes("too-many-connections")) counts.refused += 1;
    else if (wrong.length < WRONG_MAX) wrong.push(answer.slice(0, 500));
    this.socket?.end();
  }
}

let client = 0;
function each(count: number, begin: (client: number) => void): void {
  for (let index = 0; index < count; index += 1) begin(client++);
}

each(options.idle, (who) => new Line(who, ["/v1/log"], IDLE_MS));
each(options.busy, (who) => {
  new Line(
    who,
    [...READS.slice(who % READS.length), ...READS.slice(0, who % READS.length)],
    BUSY_MS,
  );
  if (who % 5 === 0) new Line(who, ["/v1/events"], null);
});
each(options.pages, (who) => {
  new Line(who, ["/v1/status"], BUSY_MS);
  new Line(who, ["/v1/events"], null);
});

setPriority(19);
setInterval(() => {
  const all = [...lines];
  const line: CrowdCounts = {
    ...counts,
    connected: all.filter(({ isOpen }) => isOpen).length,
    streams: all.filter(({ isFollowing }) => isFollowing).length,
    served: served.size,
    wrong,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}, 1_000);
for await (const _ of Bun.stdin.stream());
process.exit(0);
