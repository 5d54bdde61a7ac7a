/**
 * Goal: the kernel's NBD driver is told what is meant, to the byte, and believed no more than it
 * says; its devices are read as they are.
 * Method: messages against bytes written out by hand after linux/nbd-netlink.h, answers whole and
 * cut short; devices in a folder made like /sys.
 */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mayAttach, readNbdDevices } from "../../../src/appliance/attach/linux-nbd-devices.ts";
import {
  decodeNetlink,
  encodeFamilyRequest,
  encodeNbdDisconnect,
  encodeNbdSetting,
  familyOf,
} from "../../../src/appliance/attach/nbd-netlink.ts";
import { makeTempDir } from "../../helpers/temp.ts";

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text.replaceAll(/[^0-9a-f]/g, ""), "hex"));
}

/** Length, type 0x1c, request and ack, sequence 1, port 0; then command, version, nothing. */
function header(bytes: string, command: string): string {
  return `${bytes}000000 1c00 0500 01000000 00000000 ${command} 01 0000`;
}

test("netlink: which number the driver's family has", () => {
  const asked = fromHex("1c000000 1000 0500 01000000 00000000 03010000 0800 0200 6e626400");
  expect(encodeFamilyRequest()).toEqual(asked);
  const answer =
    "24000000 1000 0000 01000000 07000000 0102 0000 0800 0200 6e626400 0600 0100 1c00 0000";
  const end = "24000000 0200 0000 01000000 07000000 00000000 1c000000100005000100000000000000";
  const [named, ended] = decodeNetlink(fromHex(answer + end));
  expect(ended).toEqual({ kind: "end", errno: 0 });
  expect(named?.kind === "answer" && familyOf(named.attributes)).toBe(0x1c);
  const none = fromHex(
    "24000000 0200 0000 01000000 07000000 feffffff 1c000000100005000100000000000000",
  );
  expect(decodeNetlink(none)).toEqual([{ kind: "end", errno: 2 }]);
});

test("netlink: a device is connected, given connections, disconnected", () => {
  const setting = {
    ...{ index: 5, sizeBytes: 2 ** 40, blockBytes: 4096, serverFlags: 0x16d, timeoutSeconds: 30 },
    ...{ deadConnectionSeconds: 600, backend: "parityd u e", fds: [7, 9] },
  };
  const attributes = `
    0800 0100 05000000
    0c00 0200 0000000000010000
    0c00 0300 0010000000000000
    0c00 0400 1e00000000000000
    0c00 0800 5802000000000000
    0c00 0500 6d01000000000000
    1000 0a00 70617269747964207520650 0
    1c00 0780 0c00 0180 0800 0100 07000000 0c00 0180 0800 0100 09000000`;
  expect(encodeNbdSetting(0x1c, "connect", setting)).toEqual(
    fromHex(header("84", "01") + attributes),
  );
  expect(encodeNbdSetting(0x1c, "reconfigure", setting)).toEqual(
    fromHex(header("84", "03") + attributes),
  );
  expect(encodeNbdDisconnect(0x1c, 5)).toEqual(fromHex(`${header("1c", "02")} 0800 0100 05000000`));
});

test("netlink: an answer that is cut short, or lies about its lengths, says less, and ends", () => {
  const whole = fromHex(
    "24000000 1000 0000 01000000 07000000 0102 0000 0800 0200 6e626400 0600 0100 1c00 0000",
  );
  for (let bytes = 0; bytes < whole.length; bytes += 1) {
    expect(decodeNetlink(whole.subarray(0, bytes))).toEqual([]);
  }
  for (let at = 0; at < whole.length; at += 1) {
    for (const value of [0, 1, 3, 0xff]) {
      const damaged = whole.slice();
      damaged[at] = value;
      expect(decodeNetlink(damaged).length).toBeLessThanOrEqual(1);
    }
  }
});

test("devices: free, attached by us or others, detached while open; none without the driver", () => {
  const sys = makeTempDir("sys");
  expect(readNbdDevices(sys)).toEqual([]);
  const add = (name: string, attributes: Record<string, string>) => {
    mkdirSync(join(sys, "block", name), { recursive: true });
    for (const [key, text] of Object.entries(attributes)) {
      writeFileSync(join(sys, "block", name, key), `${text}\n`);
    }
  };
  add("sda", { size: "100" });
  add("nbd10", { size: "0" });
  add("nbd0", { size: "8", pid: "77", backend: "parityd u e" });
  add("nbd1", { size: "8", pid: "78", backend: "" });
  add("nbd2", { size: "0", pid: "0", backend: "parityd u f" });
  add("nbd3", { size: "8" });
  expect(readNbdDevices(sys)).toEqual([
    { index: 0, path: "/dev/nbd0", isFree: false, backend: "parityd u e" },
    { index: 1, path: "/dev/nbd1", isFree: false, backend: null },
    { index: 2, path: "/dev/nbd2", isFree: false, backend: null },
    { index: 3, path: "/dev/nbd3", isFree: false, backend: null },
    { index: 10, path: "/dev/nbd10", isFree: true, backend: null },
  ]);
});

test("permission: CAP_SYS_ADMIN among what the process may do; not said: the kernel is asked", () => {
  const proc = makeTempDir("proc");
  expect(mayAttach(proc)).toBe(true);
  mkdirSync(join(proc, "self"));
  for (const [effective, expected] of [
    ["000001ffffffffff", true],
    ["0000000000200000", true],
    ["000001ffffdfffff", false],
    ["0000000000020402", false],
  ] as const) {
    writeFileSync(
      join(proc, "self/status"),
      `Name:\tparityd\nCapEff:\t${effective}\nSeccomp:\t2\n`,
    );
    expect([effective, mayAttach(proc)]).toEqual([effective, expected]);
  }
});
