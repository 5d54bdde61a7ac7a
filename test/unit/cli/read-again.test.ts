/**
 * Goal: SIGHUP takes what is good and keeps what it had where the new is not; it says which.
 * Method: the configuration, the certificates and the tokens one by one, good and broken.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConfigInput, parseConfig } from "../../../src/appliance/config.ts";
import { Logger } from "../../../src/appliance/host/logger.ts";
import type { TlsFiles } from "../../../src/appliance/tls-files.ts";
import { err, ok, type Result } from "../../../src/base/result.ts";
import { readAgain } from "../../../src/cli/read-again.ts";

function configOf(flags: Partial<ConfigInput>) {
  const config = parseConfig(null, flags);
  if (!config.ok) throw new Error(config.error);
  return config.value;
}

function hangUp(
  before: Partial<ConfigInput>,
  after: Partial<ConfigInput> | string,
  tokens: Result<number, string> | null = null,
  secrets: Result<number, string> = ok(0),
) {
  const lines: string[] = [];
  const taken: TlsFiles[] = [];
  const log = new Logger({
    ...{ format: "logfmt", level: "info", isUnderJournald: true, now: () => new Date(0) },
    writeLine: (line) => lines.push(line),
  });
  const config = configOf(before);
  readAgain({
    config,
    readConfig: () => (typeof after === "string" ? err(after) : ok(configOf(after))),
    log,
    nbdTls: config.nbdTls === undefined ? null : { setFiles: (files) => void taken.push(files) },
    apiTls: config.apiTls === undefined ? null : { setFiles: (files) => void taken.push(files) },
    tokens: tokens === null ? null : { readAgain: () => tokens },
    alerts: { readAgain: () => secrets },
  });
  return { lines, taken };
}

test("SIGHUP: log settings at once; what needs a restart is named", () => {
  const { lines } = hangUp({}, { logLevel: "debug", logFormat: "json", memoryMib: 128 });
  expect(lines).toHaveLength(1);
  expect(JSON.parse((lines[0] ?? "").slice(3))).toMatchObject({
    msg: "SIGHUP: read again: log (level debug, format json)",
    needsRestart: "memoryMib",
  });
  const other = hangUp({}, { onEvent: "/bin/tell", webhook: [{ url: "http://h" }] });
  expect(other.lines[0]).toContain("needsRestart=webhook,onEvent");
  expect(hangUp({}, {}).lines).toEqual([
    '<6>msg="SIGHUP: read again: log (level info, format logfmt)"',
  ]);
});

test("SIGHUP: a broken configuration: an error line, and the rest is read all the same", () => {
  const { lines } = hangUp({}, 'x.toml: unknown key "colour"', ok(2));
  expect(lines).toEqual([
    expect.stringMatching(/^<3>.*the former stay in use.*colour/),
    '<6>msg="SIGHUP: read again: token file (2)"',
  ]);
});

test("SIGHUP: a broken token file is not called read", () => {
  const { lines } = hangUp({}, {}, err("line 1 is not a token"));
  expect(lines.join()).not.toContain("token file");
});

test("SIGHUP: secrets of alerts: counted, or what is wrong with one", () => {
  expect(hangUp({}, {}, null, ok(2)).lines.join()).toContain("secrets of alerts (2)");
  const { lines } = hangUp({}, {}, null, err("/etc/key: its first line is empty"));
  expect(lines[0]).toMatch(/^<3>.*secrets of alerts cannot be used.*the former stay.*first line/);
  expect(lines[1]).not.toContain("secrets");
});

test("SIGHUP: certificates: the new ones, or the former where they cannot be used", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parityd-hup-"));
  try {
    const [cert, key] = [join(folder, "cert"), join(folder, "key")];
    const made = Bun.spawnSync([
      ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
      ...["-nodes", "-keyout", key, "-out", cert, "-subj", "/CN=a", "-days", "1"],
    ]);
    expect(made.success).toBe(true);
    const pem = readFileSync(cert, "utf8");
    for (const [what, on, withCert] of [
      [
        "NBD",
        { nbdTcp: "127.0.0.1:0", nbdTls: "required", nbdTlsKey: key },
        (nbdTlsCert: string) => ({ nbdTlsCert }),
      ],
      [
        "the API",
        { apiTcp: "127.0.0.1:0", apiTls: "required", apiTlsKey: key },
        (apiTlsCert: string) => ({ apiTlsCert }),
      ],
    ] as const) {
      writeFileSync(cert, pem);
      const good = hangUp({ ...on, ...withCert("/old") }, { ...on, ...withCert(cert) });
      expect(good.lines.join()).toContain(`certificates of ${what}`);
      expect(good.lines.join()).not.toContain("needsRestart");
      expect(good.taken).toMatchObject([{ cert: pem }]);
      writeFileSync(cert, "-----BEGIN CERTIFICATE-----\nhalf\n");
      const broken = hangUp({ ...on, ...withCert(cert) }, { ...on, ...withCert(cert) });
      expect(broken.taken).toEqual([]);
      expect(broken.lines[0]).toMatch(new RegExp(`^<3>.*certificates of ${what} cannot be used`));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
