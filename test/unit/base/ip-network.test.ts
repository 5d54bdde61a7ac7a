/**
 * Goal: an address is in a network or not, however either is written, and what is no network is
 * refused with a sentence.
 * Method: enumeration; IPv6 addresses against the runtime's own reader of them.
 */
import { expect, test } from "bun:test";
import { isIP } from "node:net";
import { isInNetwork, parseIpAddress, parseIpNetwork } from "../../../src/base/ip-network.ts";

function isIn(address: string, network: string): boolean {
  const bytes = parseIpAddress(address);
  const parsed = parseIpNetwork(network);
  if (bytes === null || !parsed.ok) throw new Error(`${address} in ${network}`);
  return isInNetwork(bytes, parsed.value);
}

test("ip network: addresses at the edges of networks, in both ways to write IPv4", () => {
  for (const [network, inside, outside] of [
    [
      "10.0.0.0/8",
      ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
      ["9.255.255.255", "11.0.0.0"],
    ],
    ["::ffff:10.0.0.0/104", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "::10.0.0.1"]],
    ["192.0.2.7", ["192.0.2.7", "::ffff:c000:207", "0:0:0:0:0:ffff:c000:207"], ["192.0.2.6"]],
    ["192.0.2.6/31", ["192.0.2.6", "192.0.2.7"], ["192.0.2.5", "192.0.2.8"]],
    ["0.0.0.0/0", ["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], ["::", "::1", "2001:db8::1"]],
    ["::/0", ["::", "::1", "ffff::", "::1.2.3.4"], ["1.2.3.4", "::ffff:1.2.3.4"]],
    ["::/95", ["::1", "::1:0:0"], ["1.2.3.4", "::1:0:0:0"]],
    ["::1", ["::1", "0:0:0:0:0:0:0:1"], ["::2", "::", "0.0.0.1", "127.0.0.1"]],
    ["2001:db8::/33", ["2001:db8::", "2001:db8:7fff:ffff::"], ["2001:db8:8000::", "2001:db9::"]],
    ["fe80::/10", ["fe80::1", "febf:ffff::"], ["fec0::", "fe7f::"]],
  ] as const) {
    for (const address of inside)
      expect([network, address, isIn(address, network)]).toContain(true);
    for (const address of outside) {
      expect([network, address, isIn(address, network)]).toContain(false);
    }
  }
});

test("ip network: every length of prefix: exactly the addresses that share so many bits", () => {
  const base = "0000:0000:0000:0000:0000:0000:0000:0000";
  for (let bits = 0; bits <= 128; bits += 1) {
    for (let flipped = 0; flipped < 128; flipped += 1) {
      const bytes = new Uint8Array(16);
      bytes[flipped >> 3] = 0x80 >> (flipped & 7);
      const network = parseIpNetwork(`${base}/${bits}`);
      if (!network.ok) throw new Error(network.error);
      expect(isInNetwork(bytes, network.value)).toBe(flipped >= bits);
    }
  }
});

const ADDRESSES = [
  ...["0.0.0.0", "1.2.3.4", "255.255.255.255", "256.0.0.1", "1.2.3", "1.2.3.4.5", "1.2.3.04"],
  ...["", " 1.2.3.4", "1.2.3.4 ", "a.b.c.d", "1.2.3.-4", "0x1.2.3.4", "1.2.3.4\n", "localhost"],
  ...["::", "::1", "1::", "1::8", ":", ":::", "1:::2", "1::2::3", ":1", "1:", "::1:"],
  ...[
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::",
    "::2:3:4:5:6:7:8",
  ],
  ...[
    "1:2:3:4::5:6:7:8",
    "12345::",
    "g::",
    "::ffff:1.2.3.4",
    "::1.2.3.4",
    "1.2.3.4::",
    "1:1.2.3.4::",
    "::1.2.3",
  ],
  ...["1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5", "::256.2.3.4", "[::1]"],
];

test("ip network: what is an address: as the runtime has it, less zones", () => {
  for (const text of ADDRESSES) {
    expect([text, parseIpAddress(text) !== null]).toEqual([text, isIP(text) !== 0]);
  }
  expect(parseIpAddress("fe80::1%eth0")).toBeNull();
});

test("ip network: what is none is refused, and says why", () => {
  for (const [text, why] of [
    ["", /no IP address or network/],
    ["nas.example", /no IP address/],
    ["10.0.0.0/8/8", /no IP address/],
    ["10.0.0.0/", /0 to 32/],
    ["10.0.0.0/33", /0 to 32/],
    ["10.0.0.0/08", /0 to 32/],
    ["10.0.0.0/-1", /0 to 32/],
    ["10.0.0.0/8 ", /0 to 32/],
    ["10.0.0.0/255.0.0.0", /0 to 32/],
    ["::/129", /0 to 128/],
    ["10.0.0.1/8", /first 8/],
    ["2001:db8::1/32", /first 32/],
    ["0.0.0.1/0", /first 0/],
    ["fe80::1%eth0", /no IP address/],
  ] as const) {
    const parsed = parseIpNetwork(text);
    expect([text, parsed.ok ? "" : parsed.error]).toEqual([text, expect.stringMatching(why)]);
  }
});
