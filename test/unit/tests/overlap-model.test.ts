/**
 * Goal: the model that judges reads among overlapping writes allows all that may be, and no more.
 * Method: the cases of two writes and a read, in each order; a byte that nobody wrote.
 */
import { expect, test } from "bun:test";
import { type Change, OverlapModel } from "../../helpers/overlap-model.ts";

const ALL = { from: 0, to: 8 };

function filled(value: number): Uint8Array {
  return new Uint8Array(8).fill(value);
}

/** Which of these values a read that begins now may find everywhere. */
function allowed(model: OverlapModel, startedAt = model.tick()): number[] {
  const values = [0, 1, 2, 3];
  return values.filter((value) => model.unexplained({ ...ALL, startedAt }, filled(value)) === -1);
}

function write(model: OverlapModel, value: number): Change {
  return model.begin(ALL, filled(value));
}

test("model: a write that has ended: it and nothing else", () => {
  const model = new OverlapModel(8);
  expect(allowed(model)).toEqual([0]);
  model.end(write(model, 1));
  expect(allowed(model)).toEqual([1]);
});

test("model: a write under way: old or new, byte by byte", () => {
  const model = new OverlapModel(8);
  const change = write(model, 1);
  expect(allowed(model)).toEqual([0, 1]);
  const torn = new Uint8Array([0, 1, 0, 0, 1, 1, 0, 1]);
  expect(model.unexplained({ ...ALL, startedAt: model.tick() }, torn)).toBe(-1);
  torn[5] = 2;
  expect(model.unexplained({ ...ALL, startedAt: model.tick() }, torn)).toBe(5);
  model.end(change);
});

test("model: a read that began before the end of a write: old or new", () => {
  const model = new OverlapModel(8);
  const change = write(model, 1);
  const startedAt = model.tick();
  model.end(change);
  expect(allowed(model, startedAt)).toEqual([0, 1]);
  const next = write(model, 2);
  const laterAt = model.tick();
  model.end(next);
  expect(allowed(model, laterAt)).toEqual([1, 2]);
});

test("model: one write after the other: the last; both at once: either", () => {
  const model = new OverlapModel(8);
  model.end(write(model, 1));
  model.end(write(model, 2));
  expect(allowed(model)).toEqual([2]);
  const [one, other] = [write(model, 1), write(model, 3)];
  model.end(other);
  model.end(one);
  expect(allowed(model)).toEqual([1, 3]);
});

test("model: settled: what was read, for everybody", () => {
  const model = new OverlapModel(8);
  const [one, other] = [write(model, 1), write(model, 3)];
  model.end(one);
  model.end(other);
  model.settle(filled(3));
  expect(allowed(model)).toEqual([3]);
});

test("model: a trim: zeros or as it was, then what is written", () => {
  const model = new OverlapModel(8);
  model.end(write(model, 2));
  model.end(model.begin(ALL, null, true));
  expect(allowed(model)).toEqual([0, 2]);
  model.end(write(model, 3));
  expect(allowed(model)).toEqual([3]);
  model.end(model.begin(ALL, null));
  expect(allowed(model)).toEqual([0]);
});

test("model: a write that was refused: as if it had not been", () => {
  const model = new OverlapModel(8);
  model.undo(write(model, 1));
  expect(allowed(model)).toEqual([0]);
});

test("model: a part: the bytes beside it are as they were", () => {
  const model = new OverlapModel(8);
  model.end(model.begin({ from: 2, to: 4 }, filled(1).subarray(0, 2)));
  const range = { ...ALL, startedAt: model.tick() };
  expect(model.unexplained(range, new Uint8Array([0, 0, 1, 1, 0, 0, 0, 0]))).toBe(-1);
  expect(model.unexplained(range, new Uint8Array([0, 0, 1, 1, 1, 0, 0, 0]))).toBe(4);
  expect(model.unexplained(range, new Uint8Array([0, 0, 1, 0, 0, 0, 0, 0]))).toBe(3);
});
