/**
 * Goal: counted things read as a person would say them, also where there is one.
 * Method: the words themselves, and messages of others that are made of them.
 */
import { expect, test } from "bun:test";
import { counted, wordFor } from "../../../src/base/counted.ts";

test("counted: none, one, two; with a plural of its own", () => {
  expect([0, 1, 2].map((count) => counted(count, "client"))).toEqual([
    "0 clients",
    "1 client",
    "2 clients",
  ]);
  expect([1, 2].map((count) => counted(count, "entry", "entries"))).toEqual([
    "1 entry",
    "2 entries",
  ]);
  expect([0, 1, 2].map((count) => wordFor(count, "is", "are"))).toEqual(["are", "is", "are"]);
});
