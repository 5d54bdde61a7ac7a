/**
 * Goal: what a person writes for an address is understood, or refused with what would be right; a
 * name stands for all its addresses; one client has one name, however it is written.
 * Method: tables of texts; the listening over a scripted resolver and scripted sockets.
 */
import { expect, test } from "bun:test";
import {
  listenEverywhere,
  NBD_PORT,
  parseNbdAddress,
  peerOfAddress,
} from "../../../src/appliance/nbd-address.ts";
import type { CommandError, NbdAddress } from "../../../src/array/protocol.ts";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  errnoName,
} from "../../../src/base/errno.ts";
import { err, ok, type Result } from "../../../src/base/result.ts";
import { listenError } from "../../../src/nbd/listen-problem.ts";

test("nbd address: every form that is right: its host and port", () => {
  const hosts: readonly (readonly [string, string])[] = [
    ["127.0.0.1", "127.0.0.1"],
    ["[::1]", "::1"],
    ["[2001:db8::7]", "2001:db8::7"],
    ["localhost", "localhost"],
    ["backup-1.example.org", "backup-1.example.org"],
    ["n1", "n1"],
    ["*", "*"],
  ];
  for (const [text, host] of hosts) {
    expect(parseNbdAddress(text)).toEqual(ok({ host, port: NBD_PORT }));
    for (const port of [0, 1, 10_809, 65_535]) {
      expect(parseNbdAddress(`${text}:${port}`)).toEqual(ok({ host, port }));
    }
  }
  for (const host of ["::1", "::", "2001:db8::7", "fe80::1:2"]) {
    expect(parseNbdAddress(host)).toEqual(ok({ host, port: NBD_PORT }));
  }
});

test("nbd address: what is none: refused, with the forms that are right", () => {
  const texts = [
    ...["", " ", ":", ":10809", "10809", "1.2.3", "256.1.1.1", "1.2.3.4:", "1.2.3.4:65536"],
    ...["1.2.3.4:x", "[1.2.3.4]:1", "[::1", "::1]", "[]:1", "[::g]:1", "::1:10809:", "a b", "-a"],
    ...["a/b", "a:1:2", "**", "*.example.org", "[localhost]:1", "host:123456", "a-"],
  ];
  for (const text of texts) {
    const parsed = parseNbdAddress(text);
    expect([text, !parsed.ok && parsed.error.includes("[::1]:10809")]).toEqual([text, true]);
  }
});

type Listening = (address: NbdAddress & { kind: "tcp" }) => number;

/** What is listened on, as text; or the refusal. */
async function listened(
  where: { host: string; port: number },
  listen: Listening,
  names: Record<string, readonly string[]> = {},
): Promise<Result<string[], string>> {
  let nextPort = 40_000;
  const bound = await listenEverywhere(
    where,
    async (address): Promise<Result<NbdAddress, CommandError>> => {
      const errno = listen(address);
      if (errno !== 0) return err(listenError(address, errno));
      nextPort += 1;
      return ok({ ...address, port: address.port === 0 ? nextPort : address.port });
    },
    async (name) => {
      const found = names[name];
      if (found === undefined) throw Object.assign(new Error("no"), { code: "ENOTFOUND" });
      return found;
    },
  );
  if (!bound.ok) return bound;
  return ok(
    bound.value.map((entry) => (entry.kind === "tcp" ? `${entry.host} ${entry.port}` : "")),
  );
}

test("nbd address: a name: all its addresses, each once, with one port", async () => {
  const names = { here: ["127.0.0.1", "::1", "127.0.0.1"] };
  expect(await listened({ host: "here", port: 7 }, () => 0, names)).toEqual(
    ok(["127.0.0.1 7", "::1 7"]),
  );
  expect(await listened({ host: "here", port: 0 }, () => 0, names)).toEqual(
    ok(["127.0.0.1 40001", "::1 40001"]),
  );
  expect(await listened({ host: "*", port: 7 }, () => 0)).toEqual(ok(["0.0.0.0 7", ":: 7"]));
});

test("nbd address: a name that nobody knows, or without an address: said so", async () => {
  expect(await listened({ host: "nowhere", port: 7 }, () => 0)).toEqual(
    err("cannot look up the host name nowhere: ENOTFOUND: nobody knows it here"),
  );
  expect(await listened({ host: "empty", port: 7 }, () => 0, { empty: [] })).toEqual(
    err("the host name empty has no address"),
  );
});

for (const errno of [EAFNOSUPPORT, EADDRNOTAVAIL]) {
  test(`nbd address: ${errnoName(errno)} for one of two: the other is enough; alone it is not`, async () => {
    const withoutIpv6: Listening = ({ host }) => (host.includes(":") ? errno : 0);
    expect(await listened({ host: "*", port: 7 }, withoutIpv6)).toEqual(ok(["0.0.0.0 7"]));
    const alone = await listened({ host: "::1", port: 7 }, withoutIpv6);
    expect(!alone.ok && alone.error).toContain(`cannot listen on [::1]:7: ${errnoName(errno)}: `);
  });
}

for (const errno of [EADDRINUSE, EACCES]) {
  test(`nbd address: ${errnoName(errno)} for one of two: refused, as clients would miss it`, async () => {
    const taken: Listening = ({ host }) => (host.includes(":") ? errno : 0);
    const refused = await listened({ host: "*", port: 7 }, taken);
    expect(!refused.ok && refused.error).toContain(`[::]:7: ${errnoName(errno)}: `);
  });
}

test("peer: an address in any form: IPv4 whole, IPv6 by its network", () => {
  const table: readonly (readonly [string | undefined, string])[] = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::1", "0:0:0:0::/64"],
    ["::", "0:0:0:0::/64"],
    ["2001:db8:0:1:aaaa:bbbb:cccc:dddd", "2001:db8:0:1::/64"],
    ["2001:db8:0:1::9", "2001:db8:0:1::/64"],
    ["2001:0DB8::1", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["64:ff9b::192.0.2.7", "64:ff9b:0:0::/64"],
    [undefined, ""],
  ];
  for (const [text, peer] of table) expect([text, peerOfAddress(text)]).toEqual([text, peer]);
});
