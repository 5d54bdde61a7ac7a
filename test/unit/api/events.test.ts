/**
 * Goal: no event is lost or repeated for a client that comes back with the last id it saw.
 * Method: the stream and the JSON form over a reactor that is made to emit events.
 */
import { expect, test } from "bun:test";
import { type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { testUuid } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

/** Reads a stream until `done` says so, then hangs up. */
async function readUntil(response: Response, done: (text: string) => boolean): Promise<string> {
  const reader = response.body!.getReader();
  let text = "";
  while (!done(text)) {
    const { value, done: isEnd } = await reader.read();
    if (isEnd) break;
    text += new TextDecoder().decode(value);
  }
  await reader.cancel();
  return text;
}

function idsOf(text: string): number[] {
  return [...text.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]));
}

async function withEvents(count: number): Promise<SimAppliance> {
  const fake = await startSimAppliance();
  for (let index = 0; index < count; index += 1) fake.reactor.emit("rebuild.progress");
  return fake;
}

test("events: as JSON: those after `since`, oldest first, with ISO times", async () => {
  const { call, reactor } = await withEvents(2);
  reactor.emit("member.failed", { severity: "critical", drive: "a", message: "lost" });
  const headers = { Accept: "application/json" };
  const all = (await (await call("GET", "/v1/events", undefined, headers)).json()) as object[];
  expect(all).toHaveLength(3);
  const since = await call("GET", "/v1/events?since=2", undefined, headers);
  expect(await since.json()).toEqual([
    {
      id: 3,
      kind: "member.failed",
      severity: "critical",
      array: "raid_test",
      arrayUuid: testUuid("raid_test"),
      drive: "a",
      job: null,
      at: "2026-01-02T03:04:05.000Z",
      message: "lost",
    },
  ]);
  const one = await call("GET", "/v1/events?since=0&limit=1", undefined, headers);
  expect(await one.json()).toHaveLength(1);
});

test("events: a stream without an id: only what comes", async () => {
  const { call, reactor } = await withEvents(3);
  const response = await call("GET", "/v1/events");
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const reading = readUntil(response, (text) => idsOf(text).length >= 2);
  await Bun.sleep(5);
  reactor.emit("scrub.started", { job: 4 });
  reactor.emit("scrub.finished", { job: 4 });
  const text = await reading;
  expect(idsOf(text)).toEqual([4, 5]);
  expect(text).toContain("event: scrub.started\ndata: {");
});

test("events: Last-Event-ID: replayed over pages, then live, each once", async () => {
  const { call, reactor } = await withEvents(250);
  const headers = { "Last-Event-ID": "10" };
  const response = await call("GET", "/v1/events?since=200", undefined, headers);
  const reading = readUntil(response, (text) => idsOf(text).length >= 242);
  reactor.emit("rebuild.progress");
  await Bun.sleep(5);
  reactor.emit("rebuild.finished");
  const expected = Array.from({ length: 242 }, (_value, index) => index + 11);
  expect(idsOf(await reading)).toEqual(expected);
});

test("events: silence: a comment keeps the connection", async () => {
  const { call } = await startSimAppliance({ commentMs: 10 });
  const text = await readUntil(await call("GET", "/v1/events"), (soFar) =>
    soFar.includes(": still here"),
  );
  expect(idsOf(text)).toEqual([]);
});

test("events: a client that takes nothing: dropped after four comments", async () => {
  const { call, reactor, appliance } = await startSimAppliance({ commentMs: 10 });
  const { events } = appliance;
  const subscribe = events.subscribe.bind(events);
  let isDropped = false;
  events.subscribe = (subscriber) => {
    const end = subscribe(subscriber);
    return () => {
      isDropped = true;
      end();
    };
  };
  const response = await call("GET", "/v1/events");
  reactor.emit("rebuild.progress");
  await until("it is dropped", () => isDropped);
  const reader = response.body!.getReader();
  let reads = 0;
  while (!(await reader.read()).done) reads += 1;
  expect(reads).toBeLessThan(5);
});
