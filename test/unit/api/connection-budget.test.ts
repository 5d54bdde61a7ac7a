/**
 * Goal: no client takes the places of others: silent ones make room, each peer for its own.
 * Method: floods of every kind against small limits; who was dropped and who got in is compared.
 */
import { expect, test } from "bun:test";
import { ConnectionBudget, limitsFor, type Place } from "../../../src/api/connection-budget.ts";

const LIMITS = { short: 6, long: 2, anonymous: 4 };

function crowd() {
  const budget = new ConnectionBudget(LIMITS);
  const dropped: string[] = [];
  const come = (name: string, given: Partial<Place> = {}) => {
    const [peer = ""] = name.split(".");
    const drop = (): void => void dropped.push(name);
    const place: Place = { peer, isKnown: false, isIdle: true, isLong: false, drop, ...given };
    return { place, isIn: budget.admit(place) };
  };
  return { budget, dropped, come };
}

test("api budget: one silent peer drops its own oldest, never another's", () => {
  const { dropped, come, budget } = crowd();
  come("b.1");
  for (let index = 1; index <= 5; index += 1) expect(come(`a.${index}`).isIn).toBe(true);
  expect(dropped).toEqual(["a.1", "a.2"]);
  expect(budget.all).toHaveLength(4);
});

test("api budget: many silent peers: the largest loses first, who has shown a token is kept", () => {
  const { dropped, come } = crowd();
  come("k.1", { isKnown: true });
  for (const name of ["a.1", "b.1", "b.2", "c.1", "d.1", "e.1"]) come(name);
  expect(dropped).toEqual(["b.1", "a.1"]);
  expect(dropped).not.toContain("k.1");
});

test("api budget: where all are at work the newcomer is refused, and long ones count apart", () => {
  const { budget, dropped, come } = crowd();
  const busy = { isKnown: true, isIdle: false };
  const places = Array.from({ length: 6 }, (_, index) => come(`u.${index}`, busy));
  expect(come("u.late", busy).isIn).toBe(false);
  expect(places.map(({ place }) => budget.lengthen(place)).filter(Boolean)).toHaveLength(2);
  expect([come("u.6", busy).isIn, come("u.7", busy).isIn]).toEqual([true, true]);
  expect(come("u.8", busy).isIn).toBe(false);
  places[3]!.place.isIdle = true;
  expect(come("u.9", busy).isIn).toBe(true);
  expect(dropped).toEqual(["u.3"]);
  budget.release(places[4]!.place);
  expect(come("u.10", busy).isIn).toBe(true);
});

test("api budget: sized by what the process may open", () => {
  for (const [files, short, long] of [
    [16, 8, 8],
    [64, 8, 8],
    [256, 32, 16],
    [1_024, 128, 64],
    [8_192, 1_024, 512],
    [65_536, 2_048, 512],
    [1_048_576, 2_048, 512],
  ] as const) {
    const limits = limitsFor(files);
    expect(limits).toMatchObject({ short, long });
    expect(limits.anonymous).toBeLessThan(limits.short);
    expect(limits.anonymous).toBeLessThanOrEqual(128);
  }
});
