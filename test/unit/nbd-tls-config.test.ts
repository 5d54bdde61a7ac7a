/**
 * Goal: half of a TLS set-up is an error that says what is missing; a whole one is taken as it is.
 * Method: all 32 combinations of the five settings.
 */
import { expect, test } from "bun:test";
import { parseConfig } from "../../src/appliance/config.ts";

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
