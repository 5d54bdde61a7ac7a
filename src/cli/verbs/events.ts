/**
 * `parityd events`: the events so far, or with --follow those that come. `events test` sends an
 * alert by each way that is configured, and says whether it arrived.
 */
import type { WayOutcome } from "../../appliance/alerts/alerts.ts";
import { printable } from "../../base/printable.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { renderTable } from "../table-text.ts";
import { tell } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

interface EventLine {
  readonly id: number;
  readonly at: string;
  readonly severity: string;
  readonly kind: string;
  readonly array: string;
  readonly message: string;
}

export const eventCommands: readonly CommandSpec[] = [
  {
    path: ["events"],
    summary: "Print the events so far, or follow them",
    examples: ["parityd events --since 100", "parityd events --follow --timeout 60"],
    answers: ["parityd.event/1"],
    operands: [],
    options: {
      since: { type: "string", value: "ID", help: "only events after this one" },
      follow: {
        type: "boolean",
        short: "f",
        help: "go on with those that come, over restarts of the daemon",
      },
      ...RUN_DIR,
    },
    run: events,
  },
  {
    path: ["events", "test"],
    summary: "Send a test by each way of alerts; exit 1 where one does not arrive",
    answers: ["parityd.alerts-test/1"],
    operands: [],
    options: {
      webhook: { type: "string", value: "N", help: "only by the Nth [[webhook]], from 1" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    examples: ["parityd events test", "parityd events test --webhook 2"],
    run: test,
  },
];

async function test(invocation: Invocation, host: CliHost): Promise<number> {
  const webhook = invocation.text("webhook");
  if (webhook !== undefined && !/^[1-9]\d{0,2}$/.test(webhook)) {
    return usageFailure(host, `"${webhook}" is not the number of a webhook`);
  }
  const client = new DaemonClient(host, invocation);
  const body = webhook === undefined ? {} : { webhook: Number(webhook) };
  const tested = await client.call<TestAnswer>("POST", "/v1/events/test", body);
  if (!tested.ok) return fail(host, tested.error);
  const { arrived, ways } = tested.value.value;
  const lines = (columns: number) => wayTable(ways, columns);
  tell(invocation, host, { schema: "parityd.alerts-test/1", value: { arrived, ways }, lines });
  // A dry run does not know.
  return arrived !== false ? Exit.ok : Exit.failed;
}

interface TestAnswer {
  /** Absent in a dry run. */
  readonly arrived?: boolean;
  readonly ways: readonly WayOutcome[];
}

function wayTable(ways: readonly WayOutcome[], columns: number): string[] {
  const rows = ways.map(({ via, target, arrived, detail }) => [
    ...[via, arrived === undefined ? "-" : arrived ? "arrived" : "failed", target, detail],
  ]);
  return renderTable(["way", "test", "to", "because"], rows, columns);
}

async function events(invocation: Invocation, host: CliHost): Promise<number> {
  const since = invocation.text("since") ?? "0";
  if (!/^\d{1,15}$/.test(since)) return usageFailure(host, `"${since}" is not the id of an event`);
  const client = new DaemonClient(host, invocation);
  const show = (event: EventLine): void =>
    tell(invocation, host, {
      ...{ schema: "parityd.event/1", value: event, lines: () => [eventLine(event)] },
    });
  if (invocation.isSet("follow")) return follow(client, host, { since, show });
  let last = Number(since);
  for (;;) {
    const page = await client.get<EventLine[]>(`/v1/events?since=${last}`);
    if (!page.ok) return fail(host, page.error);
    if (page.value.value.length === 0) return Exit.ok;
    for (const event of page.value.value) show(event);
    last = page.value.value.at(-1)?.id ?? last;
  }
}

/** Between two looks whether a daemon that has ended the stream is back. */
const AGAIN_MS = 500;

/**
 * For as long as --timeout says, over restarts of the daemon: it is asked again for what came after
 * the last event. One that is not there to begin with is an error at once.
 */
async function follow(
  client: DaemonClient,
  host: CliHost,
  { since, show }: { since: string; show: (event: EventLine) => void },
): Promise<number> {
  const headers = { Accept: "text/event-stream" };
  const { timeIsUp } = client;
  let lastId = Number(since);
  let isFirst = true;
  let isAway = false;
  const showNext = (event: EventLine): void => {
    show(event);
    lastId = event.id;
  };
  for (;;) {
    const stream = await client.open("GET", `/v1/events?since=${lastId}`, { headers });
    const refused = stream.ok ? await client.refusalOf(stream.value) : stream.error;
    if (refused !== null && isFirst) return fail(host, refused);
    if (stream.ok && refused === null) {
      if (isAway) host.warn("parityd: the daemon is back");
      isFirst = false;
      isAway = false;
      if ((await readEvents(stream.value, timeIsUp, showNext)) === "time is up") return Exit.ok;
      isAway = true;
      host.warn("parityd: the daemon has ended the stream: waiting for it to be back");
    }
    // Polls: a daemon that is not there tells nobody when it is.
    if ((await Promise.race([Bun.sleep(AGAIN_MS), timeIsUp])) === "time is up") {
      const message = "the daemon has ended the stream, and is not back";
      return fail(host, { exitCode: Exit.unavailable, message });
    }
  }
}

async function readEvents(
  { body }: Response,
  timeIsUp: Promise<"time is up">,
  show: (event: EventLine) => void,
): Promise<"time is up" | "ended"> {
  const decoder = new TextDecoder();
  const reader = body?.getReader();
  let rest = "";
  while (reader !== undefined) {
    // A daemon that stops resets the connection.
    const step = await Promise.race([reader.read().catch(() => ENDED), timeIsUp]);
    if (step === "time is up") {
      await reader.cancel();
      return step;
    }
    if (step.done) break;
    const lines = (rest + decoder.decode(step.value, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.startsWith("data: ")) show(JSON.parse(line.slice(6)) as EventLine);
    }
  }
  return "ended";
}

const ENDED = { done: true, value: undefined } as const;

function eventLine(event: EventLine): string {
  const { id, at, severity, kind, array, message } = event;
  return printable(`${id} ${at} ${severity} ${kind} ${array}: ${message}`);
}
