/**
 * Goal: a simulated drive can be believed: it loses what a real one may lose and nothing else,
 * its faults come as asked for, and its checks catch a wrong caller.
 * Method: one drive, driven by hand; what a drive may lose is enumerated where it can be.
 */
import { expect, test } from "bun:test";
import { EAGAIN, EIO, ENODATA, ENOSPC, ENXIO, EOPNOTSUPP } from "../../../src/base/errno.ts";
import { submitFailure } from "../../../src/block/io-error.ts";
import { IoTable, Op } from "../../../src/reactor/io-table.ts";
import { testMemory } from "../../helpers/memory.ts";
import { HandDrive, ROW } from "./equipment-helpers.ts";
import { blankImage, type DeviceImage, readImage } from "./media.ts";
import { SimDevice } from "./sim-device.ts";
import { Simulation } from "./simulation.ts";

/** What row 0 may hold after a crash, over many draws. */
function crashValues(prepare: (drive: HandDrive) => void): number[] {
  const values = new Set<number>();
  for (let seed = 1; seed <= 40; seed += 1) {
    const drive = new HandDrive({ seed, sectorBytes: 4096 });
    prepare(drive);
    values.add(HandDrive.valueIn(drive.device.crash("random"), 0));
  }
  return [...values].sort((left, right) => left - right);
}

const DURABILITY: readonly [string, (drive: HandDrive) => void, readonly number[]][] = [
  ["a write in flight: old or new", (drive) => drive.submit(Op.write, { fill: 1 }), [0, 1]],
  ["a completed write: old or new", (drive) => drive.write(0, 1), [0, 1]],
  [
    "a completed write, then a flush: new",
    (drive) => {
      drive.write(0, 1);
      drive.flush();
    },
    [1],
  ],
  [
    "a flush that is not completed: old or new",
    (drive) => {
      drive.write(0, 1);
      drive.submit(Op.flush, {});
    },
    [0, 1],
  ],
  [
    "a write that completes after the flush was submitted: old or new",
    (drive) => {
      const write = drive.submit(Op.write, { fill: 1 });
      const flush = drive.submit(Op.flush, {});
      drive.finish(write);
      drive.finish(flush);
    },
    [0, 1],
  ],
  [
    "a write submitted after the flush, completed before it: old or new",
    (drive) => {
      drive.device.faults.plan({ op: Op.flush, fault: { kind: "slow", delayMs: 50 } });
      const flush = drive.submit(Op.flush, {});
      drive.write(0, 1);
      drive.finish(flush);
    },
    [0, 1],
  ],
  ["a FUA write: new", (drive) => drive.write(0, 1, { fua: true }), [1]],
  [
    "a FUA write in flight: old or new",
    (drive) => drive.submit(Op.write, { fill: 1, fua: true }),
    [0, 1],
  ],
  [
    "a FUA write after a cached one: never back to the cached one",
    (drive) => {
      drive.write(0, 1);
      drive.write(0, 2, { fua: true });
    },
    [2],
  ],
  [
    "two cached writes: any of the three",
    (drive) => {
      drive.write(0, 1);
      drive.write(0, 2);
    },
    [0, 1, 2],
  ],
  [
    "a flush between two writes: not older than the first",
    (drive) => {
      drive.write(0, 1);
      drive.flush();
      drive.write(0, 2);
    },
    [1, 2],
  ],
  [
    "a failed write: old or new, flushed or not",
    (drive) => {
      drive.device.faults.plan({ fault: { kind: "result", result: -EIO } });
      drive.write(0, 1);
      drive.flush();
    },
    [0, 1],
  ],
  [
    "a flush that lies: old or new",
    (drive) => {
      drive.device.doesFlushLie = true;
      drive.write(0, 1);
      drive.flush();
    },
    [0, 1],
  ],
  [
    "zeros and discards are writes",
    (drive) => {
      drive.write(0, 1, { fua: true });
      drive.run(Op.writeZeroes, {});
      drive.flush();
      drive.write(0, 2);
      drive.run(Op.discard, {});
    },
    [0, 2],
  ],
];

for (const [situation, prepare, expected] of DURABILITY) {
  test(`sim-device: crash after ${situation}`, () => {
    expect(crashValues(prepare)).toEqual([...expected]);
  });
}

test("sim-device: the policies of a crash: all kept, all dropped, torn by sector, garbage", () => {
  const values = (
    policy: "keep" | "drop" | "random" | "random-garbage",
    sectorBytes: 512 | 4096,
  ) => {
    const drive = new HandDrive({ seed: 3, sectorBytes });
    drive.write(0, 1, { bytes: 4 * ROW });
    const image = drive.device.crash(policy);
    return Array.from({ length: 32 }, (_, sector) => HandDrive.valueIn(image, sector * 512, 512));
  };
  expect(new Set(values("keep", 512))).toEqual(new Set([1]));
  expect(new Set(values("drop", 512))).toEqual(new Set([0]));
  expect(new Set(values("random", 512))).toEqual(new Set([0, 1]));
  expect(new Set(values("random-garbage", 512))).toEqual(new Set([0, 1, -1]));
  const whole = values("random", 4096);
  for (let sector = 0; sector < 32; sector += 1) {
    expect(whole[sector]).toBe(whole[sector - (sector % 8)]!);
  }
});

test("sim-device: a machine that has crashed: answers nothing, and its image can be booted", () => {
  const drive = new HandDrive();
  drive.write(0, 1, { fua: true });
  const pending = drive.submit(Op.read, {});
  const image = drive.device.crash("drop");
  drive.simulation.runUntilIdle({ limitMs: 1000 });
  expect(drive.results.has(pending)).toBe(false);
  const booted = new HandDrive({ image });
  expect(booted.read(0)[17]).toBe(1);
  booted.write(0, 2, { fua: true });
  expect(HandDrive.valueIn(image, 0)).toBe(1); // An image does not change with the drive.
});

test("sim-device: a latent sector: unreadable until it is written, through crashes too", () => {
  for (const errno of [EIO, ENODATA]) {
    const drive = new HandDrive();
    drive.device.addLatent(512, errno);
    expect(drive.run(Op.read, {})).toBe(-errno);
    expect(drive.run(Op.read, { offset: ROW })).toBe(ROW);
    const booted = new HandDrive({ image: drive.device.crash("keep") });
    expect(booted.run(Op.read, {})).toBe(-errno);
    booted.write(0, 1);
    expect(booted.read(0)[600]).toBe(1);
  }
});

test("sim-device: a crash with a write over a latent sector: good where it landed", () => {
  for (const [policy, result] of [
    ["keep", ROW],
    ["drop", -EIO],
  ] as const) {
    const drive = new HandDrive();
    drive.device.addLatent(0);
    drive.submit(Op.write, { fill: 1 });
    const booted = new HandDrive({ image: drive.device.crash(policy) });
    expect(booted.run(Op.read, {})).toBe(result);
  }
});

test("sim-device: a read fails or falls short: the rest of the buffer is poison", () => {
  const drive = new HandDrive();
  drive.write(0, 1);
  for (const moved of [0, 512, 1024, 3584]) {
    const result = moved === 0 ? -EIO : moved;
    drive.device.faults.plan({ op: Op.read, fault: { kind: "result", result } });
    const request = drive.submit(Op.read, {});
    expect(drive.finish(request)).toBe(result);
    const address = drive.addressOf(request);
    const bytes = drive.memory.bytes.slice(address, address + ROW);
    expect(bytes.every((byte, index) => byte === (index < moved ? 1 : 0xd6))).toBe(true);
  }
});

test("sim-device: a write falls short at each 512 bytes: exactly the moved part is there", () => {
  for (let moved = 512; moved < 2 * ROW; moved += 512) {
    const drive = new HandDrive();
    drive.device.faults.plan({ op: Op.write, fault: { kind: "result", result: moved } });
    expect(drive.write(0, 1, { bytes: 2 * ROW })).toBe(moved);
    const image = drive.device.image();
    expect(HandDrive.valueIn(image, 0, moved)).toBe(1);
    expect(HandDrive.valueIn(image, moved, 2 * ROW - moved)).toBe(0);
  }
});

test("sim-device: a part of a failed write: a crash keeps it where there is no cache", () => {
  for (const hasCache of [false, true]) {
    const drive = new HandDrive({ hasCache });
    drive.device.faults.plan({ op: Op.write, fault: { kind: "result", result: -ENOSPC } });
    expect(drive.run(Op.write, { fill: 1, fua: true })).toBe(-ENOSPC);
    const before = readImage(drive.device.image(), 0, ROW);
    expect(before.includes(1)).toBe(true);
    const after = readImage(drive.device.crash("drop"), 0, ROW);
    expect(after).toEqual(hasCache ? new Uint8Array(ROW) : before);
  }
});

test("sim-device: io_submit refuses: nothing ran", () => {
  const drive = new HandDrive();
  const injected = drive.device.faults.plan({
    count: 2,
    fault: { kind: "refuse", errno: EAGAIN },
  });
  expect(drive.write(0, 1)).toBe(submitFailure(EAGAIN));
  expect(drive.flush()).toBe(submitFailure(EAGAIN));
  expect(HandDrive.valueIn(drive.device.crash("keep"), 0)).toBe(0);
  expect(injected()).toBe(2);
  expect(drive.device.faults.injected.get(`refuse ${EAGAIN}`)).toBe(2);
});

test("sim-device: the third write to a range: that one and no other", () => {
  const drive = new HandDrive();
  drive.device.faults.plan({
    op: Op.write,
    offset: ROW,
    bytes: ROW,
    skip: 2,
    fault: { kind: "result", result: -EIO },
  });
  const results = [1, 2, 3, 4].map((fill) => drive.write(ROW, fill));
  expect(results).toEqual([ROW, ROW, -EIO, ROW]);
});

test("sim-device: a hung write: no answer until it is released, and it lands then", () => {
  const drive = new HandDrive();
  drive.device.faults.plan({ op: Op.write, fault: { kind: "hang" } });
  const request = drive.submit(Op.write, { fill: 1 });
  expect(drive.flush()).toBe(0);
  expect(drive.device.outstandingCount).toBe(1);
  expect(HandDrive.valueIn(drive.device.image(), 0)).toBe(0);
  drive.device.release();
  expect(drive.finish(request)).toBe(ROW);
  expect(HandDrive.valueIn(drive.device.image(), 0)).toBe(1);
});

test("sim-device: the whole drive hangs: everything waits for its release", () => {
  const drive = new HandDrive();
  drive.device.hang();
  const requests = [0, 1, 2].map((row) => drive.submit(Op.read, { offset: row * ROW }));
  drive.simulation.runUntilIdle({ limitMs: 1000 });
  expect(drive.results.size).toBe(0);
  drive.device.release();
  for (const request of requests) expect(drive.finish(request)).toBe(ROW);
});

test("sim-device: it vanishes and comes back: ENXIO meanwhile, and old content after", () => {
  const drive = new HandDrive();
  drive.write(0, 1, { fua: true });
  drive.write(0, 2);
  const inFlight = drive.submit(Op.write, { offset: ROW, fill: 3 });
  drive.device.vanish("drop");
  expect(drive.finish(inFlight)).toBe(-ENXIO);
  for (const op of [Op.read, Op.write, Op.flush]) expect(drive.run(op, {})).toBe(-ENXIO);
  const late = drive.submit(Op.write, { fill: 4 });
  drive.device.comeBack();
  expect(drive.finish(late)).toBe(-ENXIO);
  expect(drive.read(0)[0]).toBe(1);
  expect(drive.read(ROW)[0]).toBe(0);
  drive.write(0, 5);
  drive.flush();
  expect(HandDrive.valueIn(drive.device.crash("drop"), 0)).toBe(5);
});

test("sim-device: dead: the error that was asked for, and nothing of a write lands", () => {
  for (let round = 0; round < 20; round += 1) {
    const drive = new HandDrive();
    drive.write(0, 1);
    drive.device.faults.plan({ fault: { kind: "dead", errno: EIO }, count: 2 });
    expect(drive.write(0, 2)).toBe(-EIO);
    drive.finish(drive.submit(Op.read, { offset: 0 }));
    expect([...new Set(drive.read(0))]).toEqual([1]);
  }
});

test("sim-device: rot, a lost and a misdirected write: wrong bytes without an error", () => {
  const drive = new HandDrive();
  drive.write(0, 1);
  const inFlight = drive.submit(Op.write, { offset: ROW, fill: 1 });
  drive.device.rot(512, 512);
  drive.finish(inFlight);
  expect(drive.read(0)[511]).toBe(1);
  expect(drive.read(0)[512]).toBe(1 ^ 0x5a);
  expect(drive.read(ROW)[0]).toBe(1);
  drive.device.faults.plan({ op: Op.write, fault: { kind: "lose" } });
  expect(drive.write(0, 2)).toBe(ROW);
  expect(drive.read(0)[0]).toBe(1);
  drive.device.faults.plan({ op: Op.write, fault: { kind: "misdirect", toOffset: 8 * ROW } });
  expect(drive.write(0, 3)).toBe(ROW);
  expect([drive.read(0)[0], drive.read(8 * ROW)[0]]).toEqual([1, 3]);
});

test("sim-device: a discard that is not offered: EOPNOTSUPP, nothing changes", () => {
  const simulation = new Simulation({ seed: 1 });
  const table = new IoTable(1);
  const image = blankImage({ name: "plain", sizeBytes: 16 * ROW });
  const device = new SimDevice({
    simulation,
    table,
    memory: testMemory(),
    image,
    canDiscard: false,
  });
  const results: number[] = [];
  device.onComplete = (_request, result) => results.push(result);
  const request = table.allocate();
  table.op[request] = Op.discard;
  table.bytes[request] = ROW;
  device.submit(request);
  simulation.runUntilIdle({ limitMs: 100 });
  expect(results).toEqual([-EOPNOTSUPP]);
});

test("sim-device: rates of faults: each kind is injected, and none after quiet", () => {
  const drive = new HandDrive({ seed: 5 });
  const { faults } = drive.device;
  const rate = 0.05;
  faults.rates = {
    transient: rate,
    refused: rate,
    short: rate,
    readMedia: rate,
    writeMedia: rate,
    noSpace: rate,
    lost: rate,
    slow: rate,
    hang: 0,
  };
  for (let turn = 0; turn < 600; turn += 1) {
    drive.run(turn % 2 === 0 ? Op.read : Op.write, { bytes: 2 * ROW });
  }
  const kinds = [...faults.injected.keys()].map((kind) => kind.split(" ")[0]);
  expect(new Set(kinds)).toEqual(new Set(["errno", "refuse", "slow", "short"]));
  expect(faults.injected.get("errno 28")).toBeGreaterThan(0);
  expect(faults.injected.get("errno 131")).toBeGreaterThan(0);
  faults.quiet();
  for (let turn = 0; turn < 100; turn += 1) expect(drive.run(Op.read, {})).toBe(ROW);
});

const MISUSES: readonly [string, string, (drive: HandDrive) => void][] = [
  [
    "two writes in flight overlap",
    "no two writes in flight overlap",
    (drive) => {
      drive.submit(Op.write, { offset: 0, bytes: 2 * ROW });
      drive.submit(Op.write, { offset: ROW });
    },
  ],
  [
    "a zero in flight overlaps a write",
    "no two writes in flight overlap",
    (drive) => {
      drive.submit(Op.writeZeroes, {});
      drive.submit(Op.write, {});
    },
  ],
  [
    "a request is submitted twice",
    "outstanding once",
    (drive) => drive.device.submit(drive.submit(Op.read, {})),
  ],
  ["a part of a row", "whole rows", (drive) => drive.submit(Op.write, { bytes: 512 })],
  ["an offset in a row", "begin on a row", (drive) => drive.submit(Op.write, { offset: 512 })],
  [
    "past the end",
    "lie on the drive",
    (drive) => drive.submit(Op.read, { offset: drive.device.sizeBytes - ROW, bytes: 2 * ROW }),
  ],
  [
    "the buffer of a write changes",
    "does not change",
    (drive) => {
      const request = drive.submit(Op.write, {});
      drive.memory.bytes[drive.addressOf(request) + 77]! += 1;
      drive.finish(request);
    },
  ],
  [
    "the buffer of a hung read is used again",
    "nobody else's",
    (drive) => {
      drive.device.faults.plan({ fault: { kind: "hang" } });
      const request = drive.submit(Op.read, {});
      drive.memory.bytes[drive.addressOf(request) + 4095] = 0;
      drive.device.checkBuffers();
    },
  ],
];

for (const [situation, message, misuse] of MISUSES) {
  test(`sim-device: ${situation}: an assertion`, () => {
    expect(() => misuse(new HandDrive())).toThrow(message);
  });
}

test("sim-device: writes next to each other, reads over a write: allowed", () => {
  const drive = new HandDrive();
  const image: DeviceImage = drive.device.image();
  expect(image.pages.size).toBe(0);
  const requests = [
    drive.submit(Op.write, { offset: 0, fill: 1 }),
    drive.submit(Op.write, { offset: ROW, fill: 2 }),
    drive.submit(Op.read, { offset: 0, bytes: 2 * ROW }),
  ];
  for (const request of requests) drive.finish(request);
  drive.submit(Op.write, { offset: 0, fill: 3 });
});
