/**
 * Goal: a certificate is known by the names that its authority put there, and by nothing that only
 * looks like one.
 * Method: real certificates, shown in a real handshake; one with a URI that holds ", DNS:".
 */
import { beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { certificateNames } from "../../../src/appliance/nbd/certificate-names.ts";
import { beginTls } from "../../../src/appliance/tls-files.ts";
import { makeCertificate, makeTwoAuthorities } from "../../helpers/certificates.ts";
import { toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const HAS_TOOLS = toolPath("openssl") !== undefined;
let pki = "";
beforeAll(async () => {
  if (!HAS_TOOLS) return;
  pki = makeTempDir("names-pki");
  await makeTwoAuthorities(pki);
});

const pem = (name: string): string => readFileSync(join(pki, `${name}.pem`), "utf8");

async function namesOf(name: string): Promise<string[]> {
  const names = Promise.withResolvers<string[]>();
  const files = { cert: pem("old-server-cert"), key: pem("old-server-key"), ca: pem("old-cert") };
  const server = createServer((socket) => {
    const secure = beginTls(socket, files, {
      onRefused: (reason) => names.reject(new Error(reason)),
      onSecure: () => names.resolve(certificateNames(secure)),
    });
    secure.on("error", names.reject);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const own = { cert: pem(`${name}-cert`), key: pem(`${name}-key`), ca: pem("old-cert") };
  const client = connectTls({ port, host: "127.0.0.1", servername: "localhost", ...own });
  client.on("error", () => {});
  try {
    return await names.promise;
  } finally {
    client.destroy();
    server.close();
  }
}

test.skipIf(!HAS_TOOLS)(
  "certificate names: common names and DNS names [needs openssl]",
  async () => {
    for (const [name, subject, alternatives, wanted] of [
      ["plain", "/CN=backup", undefined, ["backup"]],
      ["dns", "/CN=a", "DNS:b.example,DNS:c.example", ["a", "b.example", "c.example"]],
      ["same", "/CN=a.example", "DNS:a.example", ["a.example"]],
      ["two", "/O=x/CN=one/CN=two", undefined, ["one", "two"]],
      ["none", "/O=x", "IP:127.0.0.1,email:a@b.example,URI:http://c.example", []],
      ["odd", "/CN=a\\, DNS:evil", "DNS:b.example", ["a, DNS:evil", "b.example"]],
    ] as const) {
      const names = alternatives === undefined ? { subject } : { subject, alternatives };
      await makeCertificate(pki, name, names, "old");
      expect([name, (await namesOf(name)).toSorted()]).toEqual([name, [...wanted].toSorted()]);
    }
  },
);

test.skipIf(!HAS_TOOLS)(
  "certificate names: a URI that holds another name is not that name [needs openssl]",
  async () => {
    const alternatives =
      "@alternatives\n[alternatives]\nURI.1=http://x/, DNS:evil.example\nDNS.1=b";
    await makeCertificate(pki, "evil", { subject: "/CN=a", alternatives }, "old");
    expect(await namesOf("evil")).toEqual(["a", "b"]);
  },
);
