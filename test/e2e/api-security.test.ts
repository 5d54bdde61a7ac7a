/**
 * Goal: an operator sees who called, and nobody gets in over TCP who should not.
 * Method: the compiled daemon, called as a person and as a stranger would; its events as its own
 * verb prints them.
 */
import { expect, test } from "bun:test";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeTwoAuthorities } from "../helpers/certificates.ts";
import { Daemon, runProgram, runVerb } from "../helpers/daemon.ts";
import { listeningPortOf } from "../helpers/listening-port.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const CAN_RUN = needs("libaio");
const HAS_TOOLS = toolPath("openssl") !== undefined && toolPath("curl") !== undefined;
const ADMIN = "admin-token-0123456789";

function withTokens(folder: string): void {
  mkdirSync(join(folder, "state"));
  writeFileSync(join(folder, "state", "api-token"), `admin ${ADMIN} deploy-robot\n`, {
    mode: 0o400,
  });
}

test.skipIf(!CAN_RUN)(
  "api: events say which process, which address and which token; guesses end in 429, good tokens pass [needs libaio]",
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
    // Whoever shares the address goes on.
    expect((await put(ADMIN)).status).toBe(200);
    const { exitCode, stdout } = await runVerb(["events", "--run-dir", join(folder, "run")]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("PUT /v1/log: 200 (127.0.0.1, token deploy-robot)");
    const own = `PUT /v1/log: 200 (process ${process.pid} of user ${process.getuid?.()})`;
    expect(stdout).toContain(own);
    expect(stdout).not.toContain(ADMIN);
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN || !HAS_TOOLS)(
  "api tls: the daemon over TLS, with client certificates, and SIGHUP [needs libaio, openssl, curl]",
  async () => {
    const pki = makeTempDir("api-tls-pki");
    await makeTwoAuthorities(pki);
    const use = (ca: string): void => {
      copyFileSync(join(pki, `${ca}-server-cert.pem`), join(pki, "cert.pem"));
      copyFileSync(join(pki, `${ca}-server-key.pem`), join(pki, "key.pem"));
      copyFileSync(join(pki, `${ca}-cert.pem`), join(pki, "ca.pem"));
    };
    use("old");
    const folder = makeTempDir("api-tls");
    withTokens(folder);
    const config = join(folder, "parityd.toml");
    const files = ["Cert", "Key", "Ca"].map(
      (part) => `apiTls${part} = "${join(pki, `${part.toLowerCase()}.pem`)}"\n`,
    );
    // Of all hosts: with TLS that is allowed.
    writeFileSync(config, `apiTcp = "0.0.0.0:0"\napiTls = "required"\n${files.join("")}`);
    const daemon = await Daemon.start(folder, { flags: ["--config", config] });
    const url = `https://localhost:${listeningPortOf(daemon.child.pid)}/v1/exports`;
    /** What a client of this authority is answered; "" where there is no answer. */
    const ask = async (ca: string, token = ADMIN): Promise<string> => {
      const own = ["--cert", `${ca}-client-cert.pem`, "--key", `${ca}-client-key.pem`];
      const words = ["--cacert", `${ca}-cert.pem`, ...own, "-H", `Authorization: Bearer ${token}`];
      const status = ["-s", "-o", "/dev/null", "-w", "%{http_code}"];
      const { stdout } = await runProgram(["curl", ...status, ...words, url], { cwd: pki });
      return stdout;
    };
    // A certificate is no token.
    expect([await ask("old"), await ask("old", "x"), await ask("new")]).toEqual([
      ...["200", "401", "000"],
    ]);
    use("new");
    daemon.child.kill("SIGHUP");
    await until("the certificates are read", () =>
      daemon.stderr.includes("certificates of the API"),
    );
    expect([await ask("old"), await ask("new")]).toEqual(["000", "200"]);
    writeFileSync(join(pki, "cert.pem"), "half a certificate");
    daemon.child.kill("SIGHUP");
    await until("they cannot be used", () => daemon.stderr.includes("cannot be used"));
    expect(await ask("new")).toBe("200");
    expect(await daemon.stop()).toBe(0);
  },
);

test("serve: an API of other hosts without TLS: 78, and the three ways out", async () => {
  const folder = makeTempDir("bare");
  const words = ["serve", "--run-dir", join(folder, "run"), "--state-dir", join(folder, "state")];
  const { exitCode, stderr } = await runVerb([...words, "--api-tcp", "0.0.0.0:0"]);
  expect(exitCode).toBe(78);
  expect(stderr).toMatch(
    /^parityd: apiTcp: [^\n]*apiTls[^\n]*127\.0\.0\.1[^\n]*--api-insecure[^\n]*\n$/,
  );
  const noFile = ["--api-tls", "required", "--api-tls-cert", "/none", "--api-tls-key", "/none"];
  const broken = await runVerb([...words, "--api-tcp", "127.0.0.1:0", ...noFile]);
  expect([broken.exitCode, broken.stderr]).toEqual([
    78,
    expect.stringContaining("cannot read /none"),
  ]);
});

test.skipIf(!CAN_RUN)(
  "serve: --api-insecure: it starts, and the log warns [needs libaio]",
  async () => {
    const folder = makeTempDir("insecure");
    const flags = ["--api-tcp", "0.0.0.0:0", "--api-insecure"];
    const daemon = await Daemon.start(folder, { flags });
    expect(daemon.stderr).toMatch(/<4>[^\n]*the API without TLS|warn[^\n]*the API without TLS/);
    expect(await daemon.stop()).toBe(0);
  },
);
