/**
 * Goal: `npm run bench` runs: each kind of row once, on data that it verifies itself, with a report
 * of the form that is promised. No timing is asserted.
 *
 * Method: the smallest mode, against the executable under test; then a load generator whose array
 * is damaged behind its back, to see that its check is none in name only.
 */
import { afterAll, expect, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { KIB, MIB } from "../../src/base/units.ts";
import { Generator } from "../bench/generator.ts";
import { memberFiles } from "../bench/ground.ts";
import { killAll } from "../bench/processes.ts";
import { binaryPath, runProgram } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir, takesDirectIo } from "../helpers/temp.ts";

const BENCH = join(import.meta.dir, "../bench/run.ts");

afterAll(killAll);

const percentiles = z.strictObject({ p50: z.number(), p99: z.number(), p999: z.number() });
const moved = { readPerByte: z.number(), writtenPerByte: z.number(), fullStripes: z.number() };
const summary = { median: z.number(), min: z.number(), max: z.number() };
const reportSchema = z.strictObject({
  mode: z.literal("smoke"),
  machine: z.strictObject({
    cpu: z.string(),
    cores: z.int().min(1),
    memoryMib: z.number(),
    kernel: z.string(),
    bun: z.string(),
    tools: z.record(z.string(), z.string()),
  }),
  load: z.strictObject({ before: z.array(z.number()).length(3), after: z.array(z.number()) }),
  rows: z.array(
    z.strictObject({
      name: z.string().min(1),
      unit: z.enum(["IOPS", "MiB/s", "µs", "ms", "MiB", "%", "bytes", "calls"]),
      better: z.enum(["higher", "lower"]),
      ours: z.strictObject(summary),
      reference: z.strictObject({ name: z.string().min(1), ...summary }),
      ratio: z.number().min(0),
      target: z.number().nullable(),
      ok: z.boolean().nullable(),
      latencyMicros: z.strictObject({ ours: percentiles, reference: percentiles }).optional(),
      moved: z.strictObject(moved).optional(),
    }),
  ),
  leftOut: z.array(z.strictObject({ name: z.string(), reason: z.string() })),
  failures: z.array(z.strictObject({ name: z.string(), reason: z.string() })),
});

/** A part of the name of at least one row of each kind. */
const KINDS = [
  "aio layer",
  "full-stripe sequential write, 3 x 64 KiB",
  "sequential read, 3 x 64 KiB",
  "random 4 KiB read, depth 1,",
  "random 4 KiB read, depth 32,",
  "random 4 KiB write, depth 32",
  "64 KiB mixed",
  "degraded random 4 KiB read",
  "rebuild",
  "scrub",
  "job: scrub, paced",
  "job: rebuild, paced",
  "job: replace, paced",
  "job: reshape, paced",
  "job: p99 of random 4 KiB write, depth 8, beside a scrub",
  "job: rate of a rebuild beside random 4 KiB read",
  "bitmap: full-stripe sequential write",
  "ppl: random 4 KiB write",
  "NBD 4 KiB random read",
  "NBD 4 KiB random write",
  "NBD 1 MiB sequential read",
  "NBD 4 KiB random read, 1 x 16, client fio",
  "NBD server CPU per request",
  "nbdcopy",
  "api load: p99 of random 4 KiB mixed",
  "start to ready",
  "CPU while idle",
  "resident memory",
  "heap growth per I/O",
  "allocated per I/O",
  "parity kernels",
  "system calls per I/O",
  "growth: random 4 KiB write, 64 TiB",
  "growth: assembly, 64 TiB",
  "growth: checkpoint, 64 TiB",
];

test.skipIf(!needs("libaio", "fio", "nbdkit", "nbdinfo", "qemu-img") || !takesDirectIo("/dev/shm"))(
  "bench: the smallest run: each kind of row, a report of the promised form [needs libaio, fio, nbdkit, nbdinfo, qemu-img]",
  async () => {
    const json = join(makeTempDir("bench"), "report.json");
    const { exitCode, stdout, stderr } = await runProgram(
      [process.execPath, BENCH, "--smoke", "--json", json],
      { environment: { PATH: process.env["PATH"] ?? "", PARITYD_BINARY: binaryPath() } },
    );
    expect(`${exitCode} ${exitCode === 0 ? "" : stdout + stderr}`).toBe("0 ");
    const report = reportSchema.parse(JSON.parse(readFileSync(json, "utf8")));
    expect(report.failures).toEqual([]);
    expect(report.leftOut).toEqual([]);
    for (const kind of KINDS) {
      expect(report.rows.some(({ name }) => name.includes(kind)) ? kind : "").toBe(kind);
      expect(stdout).toContain(kind);
    }
    for (const { ours, reference, ratio } of report.rows) {
      expect(ours.min).toBeLessThanOrEqual(ours.median);
      expect(ours.max).toBeGreaterThanOrEqual(ours.median);
      expect(ratio).toBe(ours.median / reference.median);
    }
    const timed = report.rows.filter(({ latencyMicros }) => latencyMicros !== undefined);
    expect(timed.map(({ name }) => name.slice(0, 4))).toEqual(["NBD ", "NBD ", "NBD ", "NBD "]);
    // Small random writes: what they modify is read, and none has all of a stripe.
    const written = report.rows.flatMap(({ moved: of }) => of ?? []);
    expect(written.map(({ fullStripes }) => fullStripes)).toEqual([0, 0]);
    for (const { readPerByte } of written) expect(readPerByte).toBeGreaterThan(1);
  },
);

test.skipIf(!needs("libaio", "direct-io"))(
  "bench: a row that is changed under the load generator: found [needs libaio, direct-io]",
  async () => {
    const members = memberFiles(makeTempDir("bench"), 3, 16 * MIB);
    const generator = new Generator(null);
    const request = { members, chunkBytes: 64 * KIB, memberSizeBytes: null, windowBytes: null };
    await generator.call("open", {
      ...request,
      memoryMib: 64,
      policy: "resync",
      hasVolatileCache: true,
      timesKernels: false,
    });
    await generator.call("fill", {});
    expect(await generator.call("verify", { rowCount: 1e6 })).not.toEqual({ rowCount: 0 });
    // Well inside of the data: of three stripes in a row at most one has its parity here.
    const fd = openSync(members[0]!, constants.O_RDWR);
    for (const chunk of [80, 81, 82])
      writeSync(fd, new Uint8Array([1]), 0, 1, chunk * 64 * KIB + 9);
    closeSync(fd);
    await expect(generator.call("verify", { rowCount: 1e6 })).rejects.toThrow("rows read");
    await generator.kill();
  },
);
