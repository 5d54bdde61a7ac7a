/**
 * Goal: the numbers on the wire are those of the protocol, and a number that JavaScript cannot hold
 * is never mistaken for another.
 * Method: literal bytes from the protocol text; boundaries of every field enumerated.
 */
import { expect, test } from "bun:test";
import {
  copyCookie,
  createRequestHeader,
  decodeRequest,
  encodeBlockStatus,
  encodeDataChunk,
  encodeErrorChunk,
  encodeGreeting,
  encodeNoneChunk,
  encodeOption,
  encodeOptionReply,
  encodeRequest,
  encodeSimpleReply,
  readOffset,
  writeOffset,
} from "../../../src/nbd/wire-format.ts";

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function encoded(encode: (view: DataView) => number): string {
  const bytes = new Uint8Array(40);
  const length = encode(new DataView(bytes.buffer));
  expect(bytes.subarray(length).every((byte) => byte === 0)).toBe(true);
  return hex(bytes.subarray(0, length));
}

test("greeting: encoded: both magics and the flags of fixed newstyle without zeroes", () => {
  expect(hex(encodeGreeting())).toBe(`${hex(Buffer.from("NBDMAGICIHAVEOPT"))}0003`);
});

test("option: encoded: header and data, and the reply has the reply magic", () => {
  const data = new Uint8Array([9, 8]);
  expect(hex(encodeOption(7, data))).toBe("49484156454f505400000007000000020908");
  expect(hex(encodeOptionReply(7, 0x80000006, data))).toBe(
    "0003e889045565a90000000780000006000000020908",
  );
});

test("replies: encoded: the bytes of the protocol text, the cookie left alone", () => {
  expect(encoded((view) => encodeSimpleReply(view, 0, 28))).toBe(
    "674466980000001c0000000000000000",
  );
  expect(encoded((view) => encodeNoneChunk(view, 0))).toBe(
    "668e33ef00010000000000000000000000000000",
  );
  expect(encoded((view) => encodeDataChunk(view, 0, 2 ** 40 + 5, 512))).toBe(
    "668e33ef00010001000000000000000000000208" + "0000010000000005",
  );
  expect(encoded((view) => encodeErrorChunk(view, 0, 5))).toBe(
    "668e33ef00018001000000000000000000000006" + "00000005" + "0000",
  );
  expect(encoded((view) => encodeBlockStatus(view, 0, 1, 4096, 3))).toBe(
    "668e33ef0001000500000000000000000000000c" + "000000010000100000000003",
  );
});

test("request: decoded at an odd address: every field, and a wrong magic is noticed", () => {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  const header = createRequestHeader();
  const offsets = [0, 1, 4095, 2 ** 32 - 1, 2 ** 32, 2 ** 52 + 3];
  for (const offset of offsets) {
    for (const length of [0, 1, 2 ** 31, 2 ** 32 - 1]) {
      encodeRequest(view, 3, { flags: 0xabcd, command: 7, cookie: 5, offset, bytes: length });
      decodeRequest(view, 3, header);
      expect(header).toEqual({
        isMagicRight: true,
        flags: 0xabcd,
        command: 7,
        offset,
        bytes: length,
      });
    }
  }
  for (let bit = 0; bit < 32; bit += 1) {
    encodeRequest(view, 3, { flags: 0, command: 0, cookie: 0, offset: 0, bytes: 0 });
    view.setUint32(3, (view.getUint32(3) ^ (1 << bit)) >>> 0);
    decodeRequest(view, 3, header);
    expect(header.isMagicRight).toBe(false);
  }
});

test("offset: above the safe integers: infinite, so out of range of every export", () => {
  const view = new DataView(new ArrayBuffer(8));
  const cases: [number, number, number][] = [
    [0x1f_ffff, 0xffff_ffff, Number.MAX_SAFE_INTEGER],
    [0x20_0000, 0, Number.POSITIVE_INFINITY],
    [0x8000_0000, 0, Number.POSITIVE_INFINITY],
    [0xffff_ffff, 0xffff_f000, Number.POSITIVE_INFINITY],
  ];
  for (const [high, low, expected] of cases) {
    view.setUint32(0, high);
    view.setUint32(4, low);
    expect(readOffset(view, 0)).toBe(expected);
  }
  for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    writeOffset(view, 0, value);
    expect(view.getBigUint64(0)).toBe(BigInt(value));
    expect(readOffset(view, 0)).toBe(value);
  }
});

test("cookie: every byte value in every place: copied as it is", () => {
  const bytes = new Uint8Array(80);
  const view = new DataView(bytes.buffer);
  for (let place = 0; place < 8; place += 1) {
    for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
      bytes.fill(0);
      bytes[1 + 8 + place] = value;
      copyCookie(view, 1, 40);
      expect(hex(bytes.subarray(48, 56))).toBe(hex(bytes.subarray(9, 17)));
      expect(bytes[48 + place]).toBe(value);
    }
  }
});
