/**
 * Goal: whoever holds a reservation is named, whatever the transport; an answer that is cut short
 * or says nonsense names nobody and ends nothing.
 * Method: answers made by hand from the tables of SPC-4 (6.15.5, 7.6.4). A real target's is read in
 * interop/lab-fence.test.ts.
 */
import { expect, test } from "bun:test";
import { reservationHolders } from "../../../src/appliance/helper/scsi-reservation.ts";

const ISCSI = "iqn.2026-11.example:host-b";

function registration(key: bigint, transport: Uint8Array, { isHolder = false } = {}): Uint8Array {
  const bytes = new Uint8Array(24 + transport.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, key);
  view.setUint8(12, isHolder ? 1 : 0);
  view.setUint8(13, 5);
  view.setUint32(20, transport.length);
  bytes.set(transport, 24);
  return bytes;
}

function answer(...registrations: readonly Uint8Array[]): Uint8Array {
  const length = registrations.reduce((sum, { length }) => sum + length, 0);
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 7);
  view.setUint32(4, length);
  let at = 8;
  for (const each of registrations) {
    bytes.set(each, at);
    at += each.length;
  }
  return bytes;
}

function iscsi(name: string): Uint8Array {
  const text = new TextEncoder().encode(name);
  const bytes = new Uint8Array(4 + Math.ceil((text.length + 1) / 4) * 4);
  bytes[0] = 5;
  new DataView(bytes.buffer).setUint16(2, bytes.length - 4);
  bytes.set(text, 4);
  return bytes;
}

/** 24 bytes, with a name of 8 bytes at `offset`. */
function fixed(protocol: number, offset: number): Uint8Array {
  const bytes = new Uint8Array(24);
  bytes[0] = protocol;
  bytes.set([0x50, 0x01, 0x40, 0x51, 0x11, 0x11, 0x11, 0x1b], offset);
  return bytes;
}

test("scsi reservation: the holder among the registered, by its name on each transport", () => {
  const other = registration(0xa1n, iscsi("iqn.2026-11.example:host-a"));
  for (const [transport, name] of [
    [iscsi(ISCSI), `initiator ${ISCSI}`],
    [fixed(6, 4), "initiator sas 500140511111111b"],
    [fixed(0, 8), "initiator wwn 500140511111111b"],
  ] as const) {
    const held = answer(other, registration(0xb2n, transport, { isHolder: true }));
    expect(reservationHolders(held)).toBe(`key 0xb2, ${name}`);
  }
  const unknown = answer(registration(0xb2n, fixed(4, 8), { isHolder: true }));
  expect(reservationHolders(unknown)).toBe("key 0xb2");
});

test("scsi reservation: all registrants hold it: each is named; nobody does: null", () => {
  const both = [0xa1n, 0xb2n].map((key) => registration(key, fixed(6, 4), { isHolder: true }));
  expect(reservationHolders(answer(...both))).toMatch(/^key 0xa1, .*; key 0xb2, /);
  expect(reservationHolders(answer(registration(0xa1n, fixed(6, 4))))).toBeNull();
  expect(reservationHolders(answer())).toBeNull();
});

test("scsi reservation: an answer cut at any byte, and lengths that lie: no throw", () => {
  const whole = answer(registration(0xb2n, iscsi(ISCSI), { isHolder: true }));
  for (let length = 0; length < 100; length += 1) {
    const told = reservationHolders(whole.subarray(0, length));
    expect(told === null || told.startsWith("key 0xb2")).toBe(true);
  }
  for (const [at, value] of [
    [4, 0xffff_ffff],
    [8 + 20, 0xffff_ffff],
  ] as const) {
    const lying = whole.slice();
    new DataView(lying.buffer).setUint32(at, value);
    expect(reservationHolders(lying)).toContain("key 0xb2");
  }
});
