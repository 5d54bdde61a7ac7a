/**
 * Goal: half of a TLS set-up is an error that says what is missing; a whole one is taken as it is.
 * Method: all 32 combinations of the five settings.
 */
import { expect, test } from "bun:test";
import { isNbdExposed, parseConfig } from "../../../src/appliance/config.ts";

const SETTINGS = {
  nbdTcp: "127.0.0.1:0",
  nbdTls: "required",
  nbdTlsCert: "cert.pem",
  nbdTlsKey: "key.pem",
  nbdTlsCa: "ca.pem",
} as const;

type Key = keyof typeof SETTINGS;

test("tls config: every combination of settings: whole ones pass, others say what is missing", () => {
  const keys = Object.keys(SETTINGS) as Key[];
  for (let bits = 0; bits < 2 ** keys.length; bits += 1) {
    const given = keys.filter((_, index) => (bits & (1 << index)) !== 0);
    const toml = given.map((key) => `${key} = "${SETTINGS[key]}"\n`).join("");
    const parsed = parseConfig(toml, {});
    const has = (key: Key): boolean => given.includes(key);
    const isHalf = !has("nbdTls") && (has("nbdTlsCert") || has("nbdTlsKey") || has("nbdTlsCa"));
    const wanted = isHalf
      ? /^nbdTls: say whether/
      : has("nbdTls") && !has("nbdTcp")
        ? /^nbdTls: TLS is for nbdTcp/
        : has("nbdTls") && !(has("nbdTlsCert") && has("nbdTlsKey"))
          ? /^nbdTls: TLS needs nbdTlsCert and nbdTlsKey/
          : null;
    expect(parsed.ok).toBe(wanted === null);
    if (!parsed.ok && wanted !== null) expect(parsed.error).toMatch(wanted);
  }
});

test("tls config: another mode: refused", () => {
  expect(parseConfig(null, { nbdTls: "maybe" as "optional" }).ok).toBe(false);
});

test("tls config: an address of other hosts: exposed unless TLS is required", () => {
  const exposed = (host: string, nbdTls?: "required" | "optional"): boolean =>
    isNbdExposed({ nbdTcp: { host, port: 1 }, nbdTls });
  for (const host of ["127.0.0.1", "127.8.8.8", "::1", "localhost"]) {
    expect([host, exposed(host), exposed(host, "optional")]).toEqual([host, false, false]);
  }
  for (const host of ["0.0.0.0", "::", "192.0.2.1", "127.0.0.1.example", "128.0.0.1"]) {
    const answers = [exposed(host), exposed(host, "optional"), exposed(host, "required")];
    expect([host, ...answers]).toEqual([host, true, true, false]);
  }
  expect(isNbdExposed({ nbdTcp: undefined, nbdTls: undefined })).toBe(false);
});
