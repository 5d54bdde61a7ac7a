/**
 * Goal: nothing that a drive brings (the name of a set: 32 bytes of anything) acts on a terminal,
 * makes a line of its own, or hides or turns round what stands beside it, wherever it is printed;
 * and JSON keeps its exact value.
 *
 * Method: every byte, and every character of the basic plane, in a name: through examine, status,
 * tables, events, jobs, refusals and both forms of the log. What comes out is looked at character
 * by character, by a list of its own, and has as many lines as with a plain name.
 */
import { expect, test } from "bun:test";
import { problemResponse } from "../../../src/api/problem.ts";
import { Logger } from "../../../src/appliance/host/logger.ts";
import type { ArrayStatus } from "../../../src/array/protocol.ts";
import { printable, printableLines } from "../../../src/base/printable.ts";
import { driveLine } from "../../../src/cli/drive-text.ts";
import { jobSummary } from "../../../src/cli/progress.ts";
import { renderArray, renderLostDrives } from "../../../src/cli/status-text.ts";
import { renderTable } from "../../../src/cli/table-text.ts";
import { setNameOf } from "../../../src/md/create.ts";
import { examineReport, renderExamine } from "../../../src/md/examine/examine.ts";
import { renderBadBlocks, renderPpl } from "../../../src/md/examine/logs.ts";
import { TEST_DEVICE_BYTES, testSuperblock } from "../../helpers/md-members.ts";
import { exampleArray } from "../../helpers/sim-reactor.ts";

/** First to last of the code units that may not be printed, by the Unicode tables. */
const FORBIDDEN: readonly (readonly [number, number])[] = [
  [0x00, 0x1f],
  [0x7f, 0x9f],
  [0xad, 0xad],
  [0x600, 0x605],
  [0x61c, 0x61c],
  [0x180e, 0x180e],
  [0x200b, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x2064],
  [0x2066, 0x206f],
  [0xfeff, 0xfeff],
  [0xfff9, 0xfffb],
];

function isForbidden(unit: number): boolean {
  return FORBIDDEN.some(([first, last]) => unit >= first && unit <= last);
}

/** ASCII, Latin, kana and ideographs: what names are written in stays as it is. */
function isLetter(unit: number): boolean {
  return (
    (unit >= 0x20 && unit <= 0x7e) ||
    (unit >= 0xae && unit <= 0x2ff) ||
    (unit >= 0x3041 && unit <= 0x9fff)
  );
}

function expectClean(text: string): void {
  for (const line of text.split("\n")) {
    for (let index = 0; index < line.length; index += 1) {
      const unit = line.charCodeAt(index);
      if (isForbidden(unit)) throw new Error(`U+${unit.toString(16)} in ${JSON.stringify(text)}`);
    }
  }
  expect(text.isWellFormed()).toBe(true);
}

test("printable: every character of the basic plane: harmless, and the same value as JSON", () => {
  for (let unit = 0; unit <= 0xffff; unit += 1) {
    const text = `a${String.fromCharCode(unit)}b`;
    const printed = printable(text);
    expectClean(printed);
    expect(printed.includes("\n")).toBe(false);
    if (isLetter(unit)) expect(printed).toBe(text);
    if (unit > 0x2fff && unit < 0xd800) continue;
    const json = JSON.stringify({ name: text });
    expect(JSON.parse(printableLines(json))).toEqual({ name: text });
  }
});

test("printable: characters beyond the basic plane: tags are escaped, pictures stay", () => {
  expect(printable("a\u{e0041}b")).toBe("a\\udb40\\udc41b");
  expect(printable("a\u{1f4be}b")).toBe("a\u{1f4be}b");
  expect(printable("\ud83d")).toBe("\\ud83d");
});

test("printable: lines: their breaks stay, what is in them does not", () => {
  expect(printableLines("one\n\u001b]0;x\u0007\ntwo\r")).toBe(
    "one\n\\u001b]0;x\\u0007\ntwo\\u000d",
  );
});

/** Names as bytes: each byte in the middle, and what terminals and readers stumble over. */
const NAMES: readonly Uint8Array[] = [
  ...Array.from({ length: 255 }, (_, byte) => Uint8Array.of(0x61, byte + 1, 0x62)),
  ...[
    "x\u001b]0;pwned\u0007\n1",
    "\u001b[2J\u001b[H",
    "a\r\nb",
    "a\u2028b",
    "\u202egpj.exe",
    "\u2066a\u2069",
    "\u009b31m",
    "\ufeffname",
  ].map((text) => new TextEncoder().encode(text)),
  Uint8Array.of(0xff, 0xfe, 0xfd),
  Uint8Array.of(0xed, 0xa0, 0x80),
  Uint8Array.of(0xc0, 0x80, 0x1b),
  Uint8Array.of(0xf0, 0x9f, 0x92),
  new Uint8Array(32).fill(0x80),
];

function superblockNamed(name: Uint8Array): ReturnType<typeof testSuperblock> {
  const setNameBytes = new Uint8Array(32);
  setNameBytes.set(name);
  return { ...testSuperblock(0), setNameBytes };
}

function linesOf(text: string): number {
  return text.split("\n").length;
}

test("names from disk: examine: every byte: harmless as text, exact as JSON", () => {
  const options = { path: "/dev/\u001b[31m\nx", deviceBytes: TEST_DEVICE_BYTES };
  const plain = renderExamine(examineReport(testSuperblock(0), { ...options, path: "m" }));
  for (const name of NAMES) {
    const superblock = superblockNamed(name);
    const report = examineReport(superblock, options);
    const text = renderExamine(report);
    expectClean(text);
    expect(linesOf(text)).toBe(linesOf(plain));
    const json = printableLines(JSON.stringify(report));
    expectClean(json);
    expect(JSON.parse(json).setName).toBe(setNameOf(superblock));
  }
  const path = "a\u001b\nb";
  const badBlocks = { schema: "parityd.examine-badblocks/1", hasLog: false, ranges: [] } as const;
  expectClean(renderBadBlocks({ ...badBlocks, path }));
  const ppl = renderPpl({ schema: "parityd.examine-ppl/1", path, state: "blank", unit: null });
  expect(linesOf(ppl)).toBe(2);
  expectClean(ppl);
});

function logged(message: string, array: string, format: "logfmt" | "json"): string {
  const lines: string[] = [];
  const logger = new Logger({
    format,
    level: "info",
    isUnderJournald: false,
    now: () => new Date(0),
    writeLine: (line) => lines.push(line),
  });
  logger.write("info", message, { array });
  expect(lines).toHaveLength(1);
  return lines[0]!;
}

test("names from disk: status, tables, events, jobs, refusals, the log: one harmless line", async () => {
  for (const bytes of NAMES) {
    const name = setNameOf(superblockNamed(bytes));
    const array: ArrayStatus = {
      ...exampleArray("plain", ["d0", "d1", "d2"]),
      name,
      state: "inactive",
      reason: `waiting for ${name}`,
    };
    const drive = {
      name: "d0",
      path: `/dev/${name}`,
      sizeBytes: 1,
      logicalBlockBytes: 512,
      state: "stale",
      detail: `it is of ${name}`,
    } as const;
    const job = { kind: "check", id: 1, array: name, state: "failed", error: name, result: {} };
    const lines = [
      ...renderArray(array, { drives: [drive] }),
      ...renderLostDrives([drive]),
      ...renderTable(["array", "size"], [[name, 3]]),
      driveLine(drive),
      jobSummary(job as never),
      logged(`array ${name} is there`, name, "logfmt"),
      logged(`array ${name} is there`, name, "json"),
    ];
    for (const line of lines) {
      expectClean(line);
      expect(line.includes("\n")).toBe(false);
    }
    const problem = problemResponse({ kind: "conflict", code: "x", detail: `array ${name} is` });
    expectClean(((await problem.json()) as { detail: string }).detail);
  }
});
