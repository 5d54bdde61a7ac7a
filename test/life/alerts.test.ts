/**
 * Goal: an array that is degraded is told of again each day, by the daemon as it is, over restarts,
 * until a spare has taken the role.
 * Method: stories on the simulated machine.
 */
import { expect, test } from "bun:test";
import type { StoredEvent } from "../../src/appliance/state/state.ts";
import { Story } from "./story.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

function repeats(story: Story): StoredEvent[] {
  const { events } = story.process.appliance;
  return events.since(0, 10_000).filter(({ message }) => message.startsWith("still "));
}

for (const how of ["SIGTERM", "SIGKILL"] as const) {
  test(`a member is gone for days, over a ${how} each: a repeat a day, none when it is whole`, () => {
    const story = new Story(4);
    story.create("tank", "d1 d2 d3");
    story.must("POST", "/v1/arrays/tank/members/d2/fail");
    story.run(MINUTE_MS);
    const away = (forMs: number): number => {
      story.away(how, forMs);
      story.run(MINUTE_MS);
      return repeats(story).length;
    };
    expect([away(23 * HOUR_MS), away(HOUR_MS)]).toEqual([0, 1]);
    expect(repeats(story)).toMatchObject([
      { kind: "array.degraded", severity: "critical", array: "tank" },
    ]);
    expect([away(HOUR_MS), away(HOUR_MS), away(22 * HOUR_MS)]).toEqual([1, 1, 2]);
    // Away for days: one, when it is there again. A clock that was set back: none.
    expect([away(4 * DAY_MS), away(-20 * DAY_MS)]).toEqual([3, 3]);
    const since = repeats(story).map(({ message }) => /since (\S+):/.exec(message)?.[1]);
    expect(new Set(since).size).toBe(1);
    story.must("POST", "/v1/arrays/tank/members", { drive: "d4" });
    story.run(MINUTE_MS);
    expect(story.arrays()).toEqual(["tank clean"]);
    expect(away(3 * DAY_MS)).toBe(3);
  });
}
