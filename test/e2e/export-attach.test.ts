/**
 * Goal: on a host whose kernel has no NBD driver the executable says so, and how else the export is
 * opened; nothing of it is remembered, and the daemon goes on.
 * Method: the compiled daemon on this host, by curl's calls and by the verbs. With a driver it is
 * interop/lab-attach.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io") && !existsSync("/sys/block/nbd0");
const NEEDS = "[needs libaio, direct-io, no NBD driver]";

describe.skipIf(!CAN_RUN)("a host without the driver", () => {
  test(`export attach: 501 with the URI, and no wish is kept ${NEEDS}`, async () => {
    const folder = makeTempDir("no-driver");
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(makeFiles(folder, 3, 24 * MIB));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
    await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
    const attach = "/v1/exports/tank/attach";
    const refused = await daemon.call("POST", attach, { device: "/dev/nbd0", atStart: true });
    expect([refused.status, refused.body.uri]).toEqual([501, daemon.uri("tank")]);
    expect(refused.body.type).toEndWith(":no-nbd-driver");
    expect(refused.body.detail).toContain("modprobe nbd");
    const words = ["--run-dir", join(folder, "run")];
    const verb = await runVerb(["export", "attach", "tank", "--at-start", ...words]);
    expect([verb.exitCode, verb.stdout]).toEqual([1, ""]);
    expect(verb.stderr).toContain(daemon.uri("tank"));
    expect((await runVerb(["export", "detach", "tank", ...words])).exitCode).toBe(1);
    expect(await daemon.stop()).toBe(0);
    daemon = await Daemon.start(folder);
    expect((await daemon.must("GET", "/v1/exports"))[0].attachment).toBeNull();
    expect(await daemon.must("GET", "/v1/events?since=0")).not.toContainEqual(
      expect.objectContaining({ kind: "export.not-attached" }),
    );
    expect(await daemon.stop()).toBe(0);
  });
});
