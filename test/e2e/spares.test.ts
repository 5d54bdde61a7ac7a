/**
 * Goal: with the executable and real files a shared spare takes the role of a drive that dies, also
 * across `kill -9`; nothing that was written is lost, and `status` leads back to exit 0.
 * Method: `parityd serve` with injected faults; every step is a verb or a call, the data go over NBD.
 */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFile, makeFiles, runVerb } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MEMBER_BYTES = 24 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const FLAGS = { flags: ["--allow-fault-injection"] };

async function verb(folder: string, line: string) {
  return runVerb([...line.split(" "), "--run-dir", join(folder, "run")]);
}

describe.skipIf(!needs("libaio", "direct-io"))("shared spares", () => {
  test(`a drive dies, the daemon is killed in the rebuild: whole in the end ${NEEDS}`, async () => {
    const folder = makeTempDir("spares");
    let daemon = await Daemon.start(folder, FLAGS);
    const names = await daemon.addDrives(makeFiles(folder, 5, MEMBER_BYTES));
    const [one, two, three, spare, next] = names as [string, string, string, string, string];
    const body = { name: "tank", drives: [one, two, three] };
    await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
    const added = await verb(folder, `spare add ${spare} --array tank`);
    expect(added.stdout.trim()).toBe(`${spare} is a shared spare for tank; large enough for tank`);
    expect((await verb(folder, `spare add ${next}`)).exitCode).toBe(0);
    const data = randomBytes(1, 3 * MIB + 512);
    let client = await daemon.connect("tank");
    await mustWrite(client, 4 * KIB, data);
    await daemon.settle("tank");
    // Slow enough that the kill comes before the end.
    await daemon.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: MIB, syncSpeedMax: MIB });
    await daemon.must("POST", "/v1/faults", { drive: two, op: "any", errno: "ENXIO" });
    await mustWrite(client, 8 * MIB, data);
    const isTaken = async () => {
      const { members } = await daemon.must("GET", "/v1/arrays/tank");
      return members[1].drive !== two && members[1].state === "rebuilding";
    };
    await until("a spare is rebuilt onto", isTaken);
    await daemon.kill();
    daemon = await Daemon.start(folder, FLAGS);
    await daemon.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: 2 ** 30, syncSpeedMax: 2 ** 30 });
    const array = await daemon.settle("tank");
    expect(array).toMatchObject({ degraded: 0, members: [{}, { state: "in-sync" }, {}] });
    const left = await daemon.must("GET", "/v1/spares");
    const seated = array.members[1].drive;
    expect([seated, ...left.map(({ drive }: { drive: string }) => drive)].sort()).toEqual(
      [spare, next].sort(),
    );
    client = await daemon.connect("tank");
    await expectData(client, 4 * KIB, data);
    await expectData(client, 8 * MIB, data);
    expect((await verb(folder, `member remove tank ${two}`)).exitCode).toBe(0);
    expect((await verb(folder, "status --check")).exitCode).toBe(0);
    expect(await daemon.stop()).toBe(0);
  });

  test(`files that hold something, or are too small: refused when they are added ${NEEDS}`, async () => {
    const folder = makeTempDir("spares");
    const daemon = await Daemon.start(folder, FLAGS);
    const names = await daemon.addDrives(makeFiles(folder, 3, MEMBER_BYTES));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives: names });
    const full = join(folder, "full.img");
    writeFileSync(full, randomBytes(2, MEMBER_BYTES));
    const small = join(folder, "small.img");
    makeFile(small, 4 * MIB);
    for (const [name, path] of Object.entries({ full, small })) {
      await daemon.must("POST", "/v1/drives", { name, path });
    }
    expect(await verb(folder, "spare add full")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("holds data that is not zero"),
    });
    expect(await verb(folder, "spare add small")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/too small .* the smallest is tank, .* at least \d+ bytes/),
    });
    // What was a member holds what it held, also in a file: no spare before it is made anew.
    const another = join(folder, "another.img");
    makeFile(another, MEMBER_BYTES);
    await daemon.must("POST", "/v1/drives", { name: "d9", path: another });
    await daemon.must("POST", "/v1/arrays/tank/members/drive2/fail", {});
    await daemon.must("POST", "/v1/arrays/tank/members?wait=60", { drive: "d9" });
    expect((await verb(folder, "spare add drive2")).exitCode).toBe(1);
    expect(await daemon.must("GET", "/v1/spares")).toEqual([]);
    expect(await daemon.stop()).toBe(0);
  });
});
