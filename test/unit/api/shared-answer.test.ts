/**
 * Goal: pages without number cost the daemon one answer at a time, and nobody is told what was so
 * before they asked.
 * Method: the sharing on a clock by hand; then /v1/status over the real services, where the
 * commands that come to the reactor show what was made, beside a change that must be seen.
 */
import { expect, test } from "bun:test";
import { SharedAnswer } from "../../../src/api/shared-answer.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

/** Answers that are made by hand, on a clock by hand. */
function bench() {
  const clock = { nowMs: 0 };
  const rests: { ms: number; end: () => void }[] = [];
  const made: { resolve: (text: string) => void; reject: (error: Error) => void }[] = [];
  const shared = new SharedAnswer(
    () =>
      new Promise<string>((resolve, reject) => {
        made.push({ resolve, reject });
      }),
    {
      nowMs: () => clock.nowMs,
      wallMs: () => clock.nowMs,
      after: (ms, end) => {
        rests.push({ ms, end });
        return () => {};
      },
    },
  );
  return { clock, rests, made, shared };
}

const settle = (): Promise<void> => Bun.sleep(0);

test("shared answer: who asks meanwhile gets the next one, all of them the same", async () => {
  const { clock, rests, made, shared } = bench();
  const first = shared.ask();
  await settle();
  const later = [shared.ask(), shared.ask(), shared.ask()];
  await settle();
  expect(made).toHaveLength(1);
  clock.nowMs = 10;
  made[0]!.resolve("before");
  expect(await first).toBe("before");
  await settle();
  // It rests four times as long as the first one took.
  expect([made.length, rests.map(({ ms }) => ms)]).toEqual([1, [40]]);
  later.push(shared.ask());
  clock.nowMs = 50;
  rests[0]!.end();
  await settle();
  expect(made).toHaveLength(2);
  made[1]!.resolve("after");
  expect(await Promise.all(later)).toEqual(["after", "after", "after", "after"]);
});

test("shared answer: who asks alone never waits; a rest has an end", async () => {
  const { clock, rests, made, shared } = bench();
  for (let count = 1; count <= 5; count += 1) {
    const asked = shared.ask();
    await settle();
    expect([made.length, rests.length]).toEqual([count, 0]);
    clock.nowMs += 100;
    made[count - 1]!.resolve(`answer ${count}`);
    expect(await asked).toBe(`answer ${count}`);
    clock.nowMs += 400;
  }
  const slow = shared.ask();
  await settle();
  clock.nowMs += 60_000;
  made[5]!.resolve("slow");
  await slow;
  void shared.ask();
  await settle();
  expect(rests.map(({ ms }) => ms)).toEqual([500]);
});

test("shared answer: one that fails is told to those who asked for it, and the next one is made", async () => {
  const { clock, rests, made, shared } = bench();
  const first = shared.ask();
  await settle();
  const second = shared.ask();
  clock.nowMs = 1;
  made[0]!.reject(new Error("a defect"));
  await expect(first).rejects.toThrow("a defect");
  await settle();
  rests[0]!.end();
  await settle();
  made[1]!.resolve("good");
  expect(await second).toBe("good");
});

test("api: 300 pages that look in the same moment: a few documents are made, all are answered", async () => {
  const sim = await startSimAppliance();
  await addTestArray(sim);
  const before = sim.reactor.commands.length;
  const answers = await Promise.all(
    Array.from({ length: 300 }, () => sim.call("GET", "/v1/status")),
  );
  const texts = await Promise.all(answers.map((answer) => answer.text()));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  expect(texts.every((text) => text.includes("raid_test"))).toBe(true);
  const asked = sim.reactor.commands.slice(before).filter(({ kind }) => kind === "nbd-stats");
  expect(asked.length).toBeLessThanOrEqual(2);
});

test("api: a status that was asked for behind a change shows it, also beside one under way", async () => {
  const sim = await startSimAppliance();
  await addTestArray(sim);
  for (let round = 0; round < 20; round += 1) {
    const early = sim.call("GET", "/v1/status");
    // So far into the first one, in which the arrays may have been asked for already.
    for (let turn = 0; turn < round; turn += 1) await Promise.resolve();
    const readDeadlineMs = 1_000 + round;
    await sim.call("PATCH", "/v1/arrays/raid_test", { readDeadlineMs });
    const late = await (await sim.call("GET", "/v1/status")).json();
    expect(late).toMatchObject({ arrays: [{ readDeadlineMs }] });
    expect((await early).status).toBe(200);
  }
});

test("api: a status that cannot be had: a problem for each who asked", async () => {
  const sim = await startSimAppliance();
  await addTestArray(sim);
  const detail = "the reactor says no for once";
  sim.reactor.refusals.set("list-arrays", { kind: "busy", code: "some-code", detail });
  const [one, ...others] = await Promise.all(
    Array.from({ length: 5 }, () => sim.call("GET", "/v1/status")),
  );
  for (const answer of [one!, ...others]) {
    if (answer.status === 200) continue;
    expect([answer.status, await answer.json()]).toMatchObject([423, { detail }]);
  }
  expect(one!.status).toBe(423);
  expect((await sim.call("GET", "/v1/status")).status).toBe(200);
});
