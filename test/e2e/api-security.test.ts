/**
 * Goal: an operator sees who called, and nobody gets in over TCP who should not.
 * Method: the compiled daemon, called as a person and as a stranger would; its events as its own
 * verb prints them.
 */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, runVerb } from "../helpers/daemon.ts";
import { listeningPortOf } from "../helpers/listening-port.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio");
const ADMIN = "admin-token-0123456789";

function withTokens(folder: string): void {
  mkdirSync(join(folder, "state"));
  writeFileSync(join(folder, "state", "api-token"), `admin ${ADMIN} deploy-robot\n`, {
    mode: 0o400,
  });
}

test.skipIf(!CAN_RUN)(
  "api: events say which process, which address and which token; guesses end in 429 [needs libaio]",
  async () => {
    const folder = makeTempDir("who");
    withTokens(folder);
    const daemon = await Daemon.start(folder, { flags: ["--api-tcp", "127.0.0.1:0"] });
    const url = `http://127.0.0.1:${listeningPortOf(daemon.child.pid)}/v1/log`;
    const put = (token: string) =>
      fetch(url, {
        method: "PUT",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: '{"level":"info"}',
      });
    expect((await put(ADMIN)).status).toBe(200);
    expect((await daemon.call("PUT", "/v1/log", { level: "info" })).status).toBe(200);
    const statuses: number[] = [];
    for (let count = 0; count < 11; count += 1) statuses.push((await put("a wrong one")).status);
    // No token holds a blank, so that nothing was guessed.
    expect(new Set(statuses)).toEqual(new Set([401]));
    statuses.length = 0;
    for (let count = 0; count < 11; count += 1) statuses.push((await put("a-wrong-one")).status);
    expect(statuses).toEqual([...new Array<number>(10).fill(401), 429]);
    expect((await put(ADMIN)).status).toBe(429);
    const { exitCode, stdout } = await runVerb(["events", "--run-dir", join(folder, "run")]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("PUT /v1/log: 200 (127.0.0.1, token deploy-robot)");
    const own = `PUT /v1/log: 200 (process ${process.pid} of user ${process.getuid?.()})`;
    expect(stdout).toContain(own);
    expect(stdout).not.toContain(ADMIN);
    expect(await daemon.stop()).toBe(0);
  },
);
