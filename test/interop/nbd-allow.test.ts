/**
 * Goal: an export with an `allow` is opened over the network by whom it names, and by nobody else,
 * whichever way NBD listens, also after a restart.
 * Method: the compiled daemon with TLS and without, clients from two addresses of this host and
 * with certificates of one CA, and its own verbs.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { encodeInfoRequest, OptionCode, OptionReply } from "../../src/nbd/wire-format.ts";
import { makeCertificate, makeTwoAuthorities } from "../helpers/certificates.ts";
import { Daemon, makeFiles, runVerb } from "../helpers/daemon.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { RawNbd, type Where } from "../helpers/raw-nbd.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io") && toolPath("openssl") !== undefined;
const { ack, errorPolicy } = OptionReply;
const NEAR = "127.0.0.2";
const FAR = "127.0.0.1";

test.skipIf(!CAN_RUN)(
  "nbd allow: by address and certificate, over TLS, in the clear, after a restart [needs libaio, direct-io, openssl]",
  async () => {
    const pki = makeTempDir("allow-pki");
    await makeTwoAuthorities(pki);
    await makeCertificate(pki, "host", { subject: "/CN=x", alternatives: "DNS:h.example" }, "old");
    const pem = (name: string): string => readFileSync(join(pki, `${name}.pem`), "utf8");
    const folder = makeTempDir("allow");
    const files = ["cert", "key"].flatMap((part) => [
      `--nbd-tls-${part}`,
      join(pki, `old-server-${part}.pem`),
    ]);
    const tls = ["--nbd-tls", "optional", ...files, "--nbd-tls-ca", join(pki, "old-cert.pem")];
    const listen = ["--nbd-tcp", "127.0.0.1:0"];
    let daemon = await Daemon.start(folder, { flags: [...listen, ...tls] });
    const drives = await daemon.addDrives(makeFiles(folder, 3, 24 * MIB));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });

    const verb = (...words: string[]) =>
      runVerb(["export", ...words, "--run-dir", join(folder, "run")]);
    let port = 0;
    const put = async (name: string, ...words: string[]): Promise<void> => {
      const added = await verb("add", "tank", name, ...words);
      expect(added).toMatchObject({ exitCode: 0, stderr: "" });
      port = Number(/:\/\/127\.0\.0\.1:(\d+)\//.exec(added.stdout)![1]);
    };
    await put("near", "--allow-address", `${NEAR}/32`, "--allow-address", "2001:db8::/32");
    await put("owner", "--allow-certificate", "old-client");
    await put("host", "--allow-certificate", "h.example", "--allow-certificate", "other");
    await put("both", "--allow-address", NEAR, "--allow-certificate", "old-client");

    const from = (localAddress: string): Where => ({ host: "127.0.0.1", port, localAddress });
    /** With this certificate; null: in the clear. */
    async function come(address: string, certificate: string | null): Promise<RawNbd> {
      const raw = await RawNbd.greeted(from(address));
      if (certificate === null) return raw;
      const own = { cert: pem(`${certificate}-cert`), key: pem(`${certificate}-key`) };
      expect(await raw.startTls({ ca: pem("old-cert"), ...own })).toBe(true);
      return raw;
    }
    /** The exports that it is told of. */
    async function namesFor(raw: RawNbd): Promise<string[]> {
      const answers = await raw.option(OptionCode.list);
      return answers
        .slice(0, -1)
        .map(({ data }) => new TextDecoder().decode(data.subarray(4)))
        .toSorted();
    }
    async function expectAllowed(raw: RawNbd, wanted: readonly string[]): Promise<void> {
      expect(await namesFor(raw)).toEqual([...wanted]);
      for (const name of ["both", "host", "near", "owner"]) {
        const types = await raw.optionTypes(OptionCode.info, encodeInfoRequest(name, []));
        expect([name, types.at(-1)]).toEqual([name, wanted.includes(name) ? ack : errorPolicy]);
      }
      raw.close();
    }
    const all = ["both", "host", "near", "owner"];
    await expectAllowed(await come(FAR, null), []);
    await expectAllowed(await come(NEAR, null), ["near"]);
    await expectAllowed(await come(FAR, "old-client"), ["owner"]);
    await expectAllowed(await come(NEAR, "old-client"), ["both", "near", "owner"]);
    await expectAllowed(await come(FAR, "host"), ["host"]);
    await expectAllowed(await RawNbd.greeted({ path: daemon.nbdSocket }), all);

    // A change: who may no longer is cut off, who may goes on.
    const near = await come(NEAR, null);
    await near.go("near");
    const owner = await come(FAR, "old-client");
    await owner.go("owner");
    const local = await RawNbd.greeted({ path: daemon.nbdSocket });
    await local.go("near");
    await put("owner", "--allow-certificate", "old-client", "--allow-certificate", "host");
    const narrowed = await verb("add", "tank", "near", "--allow-address", FAR);
    expect(narrowed).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("1 client of export near may not open it any more"),
    });
    await put("near", "--allow-address", FAR, "--force");
    expect(await near.isHungUp()).toBe(true);
    const listed = await daemon.must("GET", "/v1/exports");
    const connections = listed.map((entry: { name: string; connections: number }) => [
      entry.name,
      entry.connections,
    ]);
    expect(connections).toEqual([
      ["both", 0],
      ["host", 0],
      ["near", 1],
      ["owner", 1],
    ]);
    const table = (await verb("list")).stdout;
    expect(table).toMatch(/near +tank +read-write +1 +- +127\.0\.0\.1 /);
    expect(table).toMatch(/both +tank +read-write +0 +- +127\.0\.0\.2 with old-client /);

    const refused = await verb("add", "tank", "near", "--allow-address", "127.0.0.1/8");
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining("first 8")]);
    for (const raw of [owner, local]) raw.close();
    expect(await daemon.stop()).toBe(0);

    // Without TLS the reactor itself takes the clients: the same rules, as they are remembered.
    daemon = await Daemon.start(folder, { flags: listen });
    port = Number(/:(\d+)\//.exec((await daemon.must("GET", "/v1/exports"))[0].uris[1])![1]);
    await expectAllowed(await come(FAR, null), ["near"]);
    await expectAllowed(await come(NEAR, null), []);
    await expectAllowed(await RawNbd.greeted({ path: daemon.nbdSocket }), all);
    expect(await daemon.stop()).toBe(0);
  },
);
