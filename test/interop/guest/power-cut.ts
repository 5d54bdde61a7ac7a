/**
 * Runs inside the kernel lab's guest, started by ../lab-power-cut.test.ts, which says what it is
 * for. It never ends by itself: the machine dies under it.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Attached, connectNbd } from "../../helpers/daemon.ts";
import { guestDisks, guestFolder } from "../../helpers/lab.ts";
import { MappedDevice } from "../../helpers/mapped-device.ts";
import { openMarkLedger } from "../../helpers/mark-ledger.ts";
import { StampLoad } from "../../helpers/stamp-load.ts";
import { until } from "../../helpers/until.ts";

const FLUSHES = 40;
const UNFLUSHED_WRITES = 60;
const LOG_MS = 1000;

test("power cut: in mid-write", async () => {
  const disks = guestDisks();
  const count = disks.length / 2;
  const devices: MappedDevice[] = [];
  for (let index = 0; index < count; index += 1) {
    const target = `log-writes ${disks[index]} ${disks[count + index]}`;
    devices.push(await MappedDevice.create(`m${index}`, disks[index]!, target));
  }
  const { attached, uri } = await Attached.start(devices.map(({ path }) => path));
  expect([uri === null, attached.stderr]).toEqual([false, expect.any(String)]);
  const client = await connectNbd(attached.socket, "a");
  const other = await connectNbd(attached.socket, "a");
  const load = new StampLoad({
    seed: 1,
    windows: [{ offset: 0, bytes: Number(process.env["SIZE_BYTES"]) }],
    survives: "flushed",
    onMark: openMarkLedger(join(guestFolder(), "ledger")),
  });
  let isAtWork = true;
  void load.run([client], { depth: 6 }).then(() => {
    isAtWork = false;
  });
  for (let round = 0; round < FLUSHES; round += 1) {
    await Bun.sleep(10);
    expect(await load.flush(other)).toBe(true);
  }
  // What is not flushed any more is what gets lost.
  const written = load.acknowledgedWrites + UNFLUSHED_WRITES;
  await until("writes that nobody flushes", () => {
    expect(isAtWork).toBe(true);
    return load.acknowledgedWrites >= written;
  });
  // One member after the other stands still, in the middle of it.
  for (const device of devices) {
    await device.suspend();
    await Bun.sleep(20);
  }
  // A log is written after the write that it tells of is answered, and its header counts entries
  // only at a mark (or a FUA write): the machine goes when the logs are complete.
  for (const device of devices) await device.message("mark", "cut");
  await Bun.sleep(LOG_MS);
  writeFileSync("/proc/sysrq-trigger", "c");
});
