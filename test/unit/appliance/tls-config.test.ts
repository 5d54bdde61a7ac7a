/**
 * Goal: half of a TLS set-up is an error that says what is missing; a whole one is taken as it is.
 * Method: all 32 combinations of the five settings of NBD, and of those of the API.
 */
import { expect, test } from "bun:test";
import { isNbdExposed, parseConfig } from "../../../src/appliance/config.ts";

/** Address, mode, certificate, key, CA: by face. */
const SETTINGS = {
  nbd: ["nbdTcp", "nbdTls", "nbdTlsCert", "nbdTlsKey", "nbdTlsCa"],
  api: ["apiTcp", "apiTls", "apiTlsCert", "apiTlsKey", "apiTlsCa"],
} as const;
const VALUES = ["127.0.0.1:0", "required", "cert.pem", "key.pem", "ca.pem"];

test("tls config: every combination of settings: whole ones pass, others say what is missing", () => {
  for (const face of ["nbd", "api"] as const) {
    for (let bits = 0; bits < 2 ** VALUES.length; bits += 1) {
      const has = VALUES.map((_, index) => (bits & (1 << index)) !== 0);
      const lines = VALUES.map((value, index) => `${SETTINGS[face][index]} = "${value}"\n`);
      const parsed = parseConfig(lines.filter((_, index) => has[index]).join(""), {});
      const [hasAddress, hasMode, hasCert, hasKey, hasCa] = has;
      const isHalf = !hasMode && (hasCert || hasKey || hasCa);
      const wanted = isHalf
        ? `${face}Tls: say `
        : hasMode && !hasAddress
          ? `${face}Tls: TLS is for ${face}Tcp`
          : hasMode && !(hasCert && hasKey)
            ? `${face}Tls: TLS needs ${face}TlsCert and ${face}TlsKey`
            : null;
      expect([face, bits, parsed.ok]).toEqual([face, bits, wanted === null]);
      if (!parsed.ok) expect(parsed.error).toStartWith(wanted!);
    }
  }
});

test("tls config: another mode: refused", () => {
  expect(parseConfig(null, { nbdTls: "maybe" as "optional" }).ok).toBe(false);
  expect(parseConfig(null, { apiTls: "optional" as "required" }).ok).toBe(false);
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

test("tls config: the API at an address of other hosts: refused without TLS, unless that is said", () => {
  const tls = { apiTls: "required", apiTlsCert: "cert.pem", apiTlsKey: "key.pem" } as const;
  for (const [host, isLocal] of [
    ["127.0.0.1", true],
    ["127.8.8.8", true],
    ["[::1]", true],
    ["localhost", true],
    ["0.0.0.0", false],
    ["[::]", false],
    ["192.0.2.1", false],
    ["[::ffff:192.0.2.1]", false],
    ["127.0.0.1.example", false],
    ["nas", false],
  ] as const) {
    const apiTcp = `${host}:8080`;
    const plain = parseConfig(null, { apiTcp });
    expect([host, plain.ok]).toEqual([host, isLocal]);
    if (!plain.ok) expect(plain.error).toMatch(/^apiTcp: .*apiTls = "required".*--api-insecure/);
    expect(parseConfig(null, { apiTcp, apiInsecure: true }).ok).toBe(true);
    expect(parseConfig(null, { apiTcp, ...tls }).ok).toBe(true);
    expect(parseConfig(null, { apiTcp, apiInsecure: false, ...tls }).ok).toBe(true);
  }
});
