/**
 * Goal: every array has a label that the API takes, that is nobody else's, and that is its own name
 * where that can be.
 * Method: names as people and other systems give them, alone and beside every label that is taken.
 */
import { expect, test } from "bun:test";
import { isLabel, labelFor, parseUuid } from "../../../src/appliance/state/labels.ts";

const UUID = "c11d38b9:6282c62e:923ce7f8:62fee4fb";
const NAMES = [
  "tank",
  "my raid",
  "données",
  "a/b",
  "..",
  ".",
  "",
  "-",
  "x\u001b]0;pwn\u0007\n1",
  "abcdefghijklmnopqrstuvwxyz012345",
  "abcdefghijklmnopqrstuvwxyz0123456789",
  "0123456789abcdef0123456789abcdef",
  "\u{1f4be}\u{1f4be}",
];

test("label: every name: the API takes it, also when each candidate is taken", () => {
  for (const nameOnDisk of NAMES) {
    const taken = new Set<string>();
    for (let round = 0; round < 8; round += 1) {
      const label = labelFor({ nameOnDisk, uuid: UUID }, (text) => taken.has(text));
      expect([label, isLabel(label)]).toEqual([label, true]);
      expect(parseUuid(label)).toBeNull();
      if (round < 6) expect(taken.has(label)).toBe(false);
      taken.add(label);
    }
  }
});

test("label: what it looks like", () => {
  const free = (nameOnDisk: string) => labelFor({ nameOnDisk, uuid: UUID }, () => false);
  const clash = (nameOnDisk: string) =>
    labelFor({ nameOnDisk, uuid: UUID }, (label) => label === nameOnDisk);
  expect(free("tank")).toBe("tank");
  expect(clash("tank")).toBe("tank-c11d38b9");
  expect(free("my raid")).toBe("my-raid-c11d38b9");
  expect(free("données")).toBe("donn-es-c11d38b9");
  expect(free("")).toBe("array-c11d38b9");
  expect(clash("abcdefghijklmnopqrstuvwxyz")).toBe("abcdefghijklmnopqrstuvw-c11d38b9");
});

test("uuid: every way to write one: mdadm's form; anything else: none", () => {
  const bare = UUID.replaceAll(":", "");
  const dashed = bare.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
  for (const text of [UUID, bare, dashed, dashed.toUpperCase()]) expect(parseUuid(text)).toBe(UUID);
  for (const text of ["tank", "", bare.slice(1), `${bare}0`, "g".repeat(32)]) {
    expect([text, parseUuid(text)]).toEqual([text, null]);
  }
});
