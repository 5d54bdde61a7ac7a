/**
 * Goal: commands that want the same drive or array run one after the other, in the order in which
 * they came, and nobody waits for ever.
 * Method: every order of three takers over two keys, enumerated; then refusing and giving up.
 */
import { expect, test } from "bun:test";
import { type Lease, LeaseTable } from "../../../src/array/leases.ts";

const KEY_SETS = [["a"], ["b"], ["a", "b"], ["b", "a"], []] as const;

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

test("leases: every three takers over two keys: never two at one key, all are served", async () => {
  for (const first of KEY_SETS) {
    for (const second of KEY_SETS) {
      for (const third of KEY_SETS) {
        const table = new LeaseTable();
        const held = new Map<string, number>();
        const order: number[] = [];
        const take = async (index: number, keys: readonly string[]): Promise<void> => {
          const lease = await table.take(keys, `taker ${index}`);
          for (const key of keys) {
            expect(held.has(key)).toBe(false);
            held.set(key, index);
          }
          order.push(index);
          await Promise.resolve();
          for (const key of keys) held.delete(key);
          lease!.release();
        };
        await Promise.all([take(0, first), take(1, second), take(2, third)]);
        expect([...order].sort()).toEqual([0, 1, 2]);
        const overlap = first.some((key) => (second as readonly string[]).includes(key));
        if (overlap) expect(order.indexOf(0)).toBeLessThan(order.indexOf(1));
      }
    }
  }
});

test("leases: one that waits for two keys: a later one does not take one of them before", async () => {
  const table = new LeaseTable();
  const holder = (await table.take(["a"], "first"))!;
  const order: string[] = [];
  const both = table.take(["a", "b"], "both").then((lease) => {
    order.push("both");
    lease!.release();
  });
  const late = table.take(["b"], "late").then((lease) => {
    order.push("late");
    lease!.release();
  });
  await settle();
  expect(order).toEqual([]);
  expect(table.holderOf(["b", "a"])).toBe("first");
  holder.release();
  await Promise.all([both, late]);
  expect(order).toEqual(["both", "late"]);
  expect(table.holderOf(["a", "b"])).toBeNull();
});

test("leases: who gives up: gets nothing, and those behind it go on", async () => {
  const table = new LeaseTable();
  const holder = (await table.take(["a"], "first"))!;
  let giveUp = (): void => {};
  const impatient = table.take(["a", "b"], "impatient", (stop) => {
    giveUp = stop;
  });
  const behind = table.take(["b"], "behind");
  giveUp();
  expect(await impatient).toBeNull();
  const lease = (await behind) as Lease;
  lease.release();
  holder.release();
  giveUp(); // Too late: nothing happens.
  expect(() => lease.release()).toThrow("given back once");
});

test("leases: refused: whoever waits gets null, who holds keeps it, later ones are served", async () => {
  const table = new LeaseTable();
  const holder = (await table.take(["a"], "first"))!;
  const waiting = table.take(["a"], "waiting");
  table.refuseWaiting();
  expect(await waiting).toBeNull();
  const later = table.take(["a"], "later");
  holder.release();
  expect(await later).not.toBeNull();
});
