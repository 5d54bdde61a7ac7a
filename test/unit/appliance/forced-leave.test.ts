/**
 * Goal: whoever finds that the daemon left without the end of its stop reads which arrays it left
 * and for which drives, in the log and in the events of state.db.
 * Method: a reactor that answers what it still has to stop, one that has ended, and one that hangs.
 */
import { expect, test } from "bun:test";
import { tellForcedLeave } from "../../../src/appliance/forced-leave.ts";
import { processAlarms } from "../../../src/appliance/state/alarms.ts";
import type { ArrayEvent, UnstoppedArray } from "../../../src/array/protocol.ts";

type Client = Parameters<typeof tellForcedLeave>[0]["client"];

async function toldOf(answer: Promise<unknown>) {
  const events: ArrayEvent[] = [];
  const told: string[] = [];
  await tellForcedLeave({
    client: { call: () => answer } as Client,
    events: {
      append: (event) => {
        told.push("event");
        events.push(event);
        return { ...event, id: events.length };
      },
    },
    // The wait for an answer is over at once.
    alarms: { ...processAlarms, after: (_ms, then) => processAlarms.after(1, then) },
    log: { write: (level, message, fields) => told.push(JSON.stringify([level, message, fields])) },
    seconds: 300,
  });
  return { events, told };
}

const MESSAGE = "left though drives do not answer: their arrays stay dirty, which is safe";
const line = (fields: object) => JSON.stringify(["error", MESSAGE, { seconds: 300, ...fields }]);

test("forced leave: arrays and drives in the log first, then an event for each array", async () => {
  const value: readonly UnstoppedArray[] = [
    { name: "tank", uuid: "1:1:1:1", drives: ["a", "b"] },
    { name: "vol", uuid: "2:2:2:2", drives: [] },
  ];
  const { events, told } = await toldOf(Promise.resolve({ ok: true, value }));
  expect(told).toEqual([line({ arrays: "tank,vol", drives: "a,b" }), "event", "event"]);
  const start = (name: string) =>
    `parityd left ${name} dirty after 300 s of its stop, which is safe`;
  const common = { kind: "array.left", severity: "warning", job: null } as const;
  expect(events).toMatchObject([
    {
      ...{ ...common, array: "tank", arrayUuid: "1:1:1:1", drive: "a" },
      message: `${start("array tank")}: drives a, b do not answer`,
    },
    {
      ...{ ...common, array: "vol", arrayUuid: "2:2:2:2", drive: null },
      message: `${start("array vol")}: it had not stopped`,
    },
  ]);
});

test.each([
  ["has ended", Promise.resolve({ ok: false, error: {} })],
  ["hangs", new Promise(() => {})],
])("forced leave: a reactor that %s: said so, once", async (_what, answer) => {
  const { events, told } = await toldOf(answer);
  expect(told).toEqual([line({ arrays: "unknown", drives: "unknown" }), "event"]);
  expect(events).toMatchObject([
    {
      ...{ kind: "array.left", array: "", arrayUuid: null, drive: null },
      message: expect.stringContaining("all arrays that ran dirty after 300 s"),
    },
  ]);
});
