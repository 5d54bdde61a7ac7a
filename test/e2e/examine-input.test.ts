/**
 * Goal: `examine` and `attach` answer whatever they are given, in a bounded time and in words: what
 * is no drive, what never answers a read or never ends, huge and empty files, many of them, the
 * same one twice; and a name on disk that holds terminal escapes is printed as letters.
 *
 * Method: the compiled binary, with each kind of path that a file system has.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { MIB, TIB } from "../../src/base/units.ts";
import { encodeSuperblock } from "../../src/md/superblock.ts";
import { runProgram, runVerb } from "../helpers/daemon.ts";
import { testSuperblock, writeMember } from "../helpers/md-members.ts";
import { makeTempDir } from "../helpers/temp.ts";

const folder = makeTempDir("examine-input");
const at = (name: string): string => join(folder, name);
let server: Server;

beforeAll(async () => {
  mkdirSync(at("folder"));
  writeFileSync(at("empty"), "");
  writeFileSync(at("byte"), "x");
  writeFileSync(at("huge"), "");
  truncateSync(at("huge"), 8 * TIB);
  symlinkSync("nowhere", at("dangling"));
  symlinkSync("loop", at("loop"));
  await runProgram(["mkfifo", at("pipe")]);
  server = createServer().listen(at("socket"));
  const setNameBytes = new Uint8Array(32);
  setNameBytes.set(new TextEncoder().encode("x\u001b]0;pwned\u0007\n\u202e"));
  const deviceBytes = 8 * MIB;
  for (let index = 0; index < 3; index += 1) {
    const superblock = { ...testSuperblock(index, { deviceBytes }), setNameBytes };
    writeMember(at(`m${index}`), encodeSuperblock(superblock), deviceBytes);
  }
});

afterAll(() => server.close());

const STRANGERS: readonly (readonly [string, RegExp])[] = [
  ["folder", /a directory/],
  ["pipe", /a pipe/],
  ["socket", /a socket/],
  ["/dev/zero", /a character device/],
  ["/dev/full", /a character device/],
  ["empty", /too small/],
  ["byte", /too small/],
  ["huge", /no md v1\.2 superblock/],
  ["nothing", /ENOENT/],
  ["dangling", /ENOENT/],
  ["loop", /ELOOP/],
];

describe("examine and attach", () => {
  test.each(STRANGERS)("%s: examine and attach answer in words, at once", async (name, says) => {
    const path = name.startsWith("/") ? name : at(name);
    const examined = await runVerb(["examine", path]);
    expect([name, examined.exitCode]).toEqual([name, 1]);
    expect(examined.stderr).toMatch(says);
    expect(examined.stderr).toContain(path);
    const attached = await runVerb(["attach", path, "--socket", at("nbd"), "--no-direct"]);
    expect([name, attached.exitCode]).toEqual([name, 1]);
    expect(attached.stderr).toContain(path);
  });

  test("200 files: each is told, and the sound ones are shown", async () => {
    const files = Array.from({ length: 200 }, (_, index) => at(index % 50 === 0 ? "m0" : "empty"));
    const examined = await runVerb(["examine", ...files]);
    expect(examined.exitCode).toBe(1);
    expect(examined.stdout.match(/Array UUID/g)).toHaveLength(4);
    expect(examined.stderr.match(/too small/g)).toHaveLength(196);
  });

  test("the same file twice: attach says so", async () => {
    const words = ["attach", at("m0"), at("m1"), at("m0"), "--socket", at("nbd"), "--no-direct"];
    const attached = await runVerb(words);
    expect(attached.exitCode).toBe(1);
    expect(attached.stderr).toMatch(/already has this device|is a drive .* already|has .*m0/);
  });

  test("a name with terminal escapes: printed as letters, exact as JSON", async () => {
    const text = await runVerb(["examine", at("m0")]);
    expect(text.stdout).toContain("Name : x\\u001b]0;pwned\\u0007\\u000a\\u202e");
    const json = await runVerb(["examine", "--json", at("m0")]);
    for (const { stdout } of [text, json]) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    }
    expect(JSON.parse(json.stdout).setName).toBe("x\u001b]0;pwned\u0007\n\u202e");
  });
});
