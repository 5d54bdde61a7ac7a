/**
 * Goal: SIGHUP brings new certificates to new clients; who is connected goes on, and files that
 * cannot be used change nothing.
 * Method: one daemon whose CA changes under it, and two clients, each of one of the CAs.
 */
import { expect, test } from "bun:test";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OptionCode } from "../../src/nbd/wire-format.ts";
import { makeTwoAuthorities } from "../helpers/certificates.ts";
import { Daemon } from "../helpers/daemon.ts";
import { listeningPortOf } from "../helpers/listening-port.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { RawNbd } from "../helpers/raw-nbd.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io") && toolPath("openssl") !== undefined;

test.skipIf(!CAN_RUN)(
  "tls: SIGHUP: new files for new clients, broken ones for nobody [needs libaio, direct-io, openssl]",
  async () => {
    const pki = makeTempDir("pki2");
    await makeTwoAuthorities(pki);
    const inUse = (part: string): string => join(pki, `${part}.pem`);
    const use = (ca: string): void => {
      copyFileSync(join(pki, `${ca}-server-cert.pem`), inUse("cert"));
      copyFileSync(join(pki, `${ca}-server-key.pem`), inUse("key"));
      copyFileSync(join(pki, `${ca}-cert.pem`), inUse("ca"));
    };
    use("old");
    const files = ["cert", "key", "ca"].flatMap((part) => [`--nbd-tls-${part}`, inUse(part)]);
    const flags = ["--nbd-tcp", "127.0.0.1:0", "--nbd-tls", "required", ...files];
    const daemon = await Daemon.start(makeTempDir("again"), { flags });
    const listed = await daemon.must("GET", "/v1/exports");
    expect(listed).toEqual([]);
    const port = listeningPortOf(daemon.child.pid);
    const pem = (name: string): string => readFileSync(join(pki, `${name}.pem`), "utf8");

    /** Whether a client of this CA gets through, and its connection. */
    async function come(ca: string): Promise<RawNbd | null> {
      const raw = await RawNbd.greeted({ host: "127.0.0.1", port });
      const own = { cert: pem(`${ca}-client-cert`), key: pem(`${ca}-client-key`) };
      if (!(await raw.startTls({ ca: pem(`${ca}-cert`), ...own }))) return null;
      return (await raw.option(OptionCode.list)).length > 0 ? raw : null;
    }

    const first = await come("old");
    expect(first).not.toBeNull();
    use("new");
    daemon.child.kill("SIGHUP");
    while (!daemon.stderr.includes("certificates of NBD")) await Bun.sleep(5);
    expect(await come("old").catch(() => null)).toBeNull();
    expect(await come("new")).not.toBeNull();
    expect((await first!.option(OptionCode.list)).length).toBeGreaterThan(0);
    writeFileSync(inUse("cert"), "half a certificate");
    daemon.child.kill("SIGHUP");
    while (!daemon.stderr.includes("cannot be used")) await Bun.sleep(5);
    expect(await come("new")).not.toBeNull();
    expect(await daemon.stop()).toBe(0);
  },
);
