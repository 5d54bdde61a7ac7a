/** Goal: events are read in whatever pieces they come, kept once each, and found by a filter. */
import { expect, test } from "bun:test";
import { EventReader, filterEvents, type PageEvent, withNew } from "../../../src/page/events.ts";

const event = (id: number, fields: Partial<PageEvent> = {}): PageEvent => ({
  ...{ id, kind: "api.call", severity: "info", array: "tank", drive: null, job: null },
  ...{ at: "2026-11-30T00:00:00.000Z", message: "GET / done", ...fields },
});
const text = (of: PageEvent): string =>
  `id: ${of.id}\nevent: ${of.kind}\ndata: ${JSON.stringify(of)}\n\n`;

test("events: a stream cut anywhere: the same events", () => {
  const stream = `: events after 0\n\n${text(event(1))}: still here\n\n${text(event(2))}`;
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const reader = new EventReader();
    const read = [...reader.push(stream.slice(0, cut)), ...reader.push(stream.slice(cut))];
    expect(read.map(({ id }) => id)).toEqual([1, 2]);
  }
  expect(new EventReader().push("data: {broken\n\n")).toEqual([]);
});

test("events: what comes again: kept once, the newest first, no more than a thousand", () => {
  const known = withNew([], [event(1), event(2)]);
  expect(withNew(known, [event(2), event(3)]).map(({ id }) => id)).toEqual([3, 2, 1]);
  const many = Array.from({ length: 1_500 }, (_, index) => event(index + 1));
  expect(withNew([], many)).toHaveLength(1_000);
});

test("events: a filter: by weight, array and words, all of them", () => {
  const events = [
    event(4, { kind: "member.failed", severity: "critical", drive: "drive1", message: "EIO" }),
    event(3, { severity: "warning", array: "pool" }),
    event(2, { array: "", kind: "io.error" }),
    event(1),
  ];
  const ids = (fields: object): number[] =>
    filterEvents(events, { severity: "info", array: "", text: "", ...fields }).map(({ id }) => id);
  expect(ids({})).toEqual([4, 3, 2, 1]);
  expect(ids({ severity: "warning" })).toEqual([4, 3]);
  expect(ids({ severity: "critical" })).toEqual([4]);
  expect(ids({ array: "pool" })).toEqual([3]);
  expect(ids({ text: " DRIVE1  failed " })).toEqual([4]);
  expect(ids({ text: "drive1 pool" })).toEqual([]);
});
