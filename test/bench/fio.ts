/** Runs fio: one job line in, rates out. */
import { assert } from "../../src/base/assert.ts";
import { toolPath } from "../helpers/needs.ts";
import { runToEnd } from "./processes.ts";

export interface FioJob {
  readonly rw: "read" | "write" | "randread" | "randwrite" | "randrw";
  readonly blockBytes: number;
  readonly depth: number;
  readonly runtimeMs: number;
  readonly target:
    | {
        readonly kind: "files";
        readonly paths: readonly string[];
        /** The part of each file that is used. */
        readonly offset: number;
        readonly bytes: number;
      }
    | { readonly kind: "nbd"; readonly uri: string; readonly connections: number };
  /** For randrw. */
  readonly readPercent?: number;
  /** Latencies are taken, which costs fio some of its rate. */
  readonly timed?: boolean;
}

export interface FioResult {
  readonly operations: number;
  readonly operationsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Of reads and writes the longer one; null where it was not taken. */
  readonly p99Micros: number | null;
}

export function hasFioEngine(name: string): boolean {
  const fio = toolPath("fio");
  if (fio === undefined) return false;
  const { stdout } = Bun.spawnSync([fio, "--enghelp"], { stdin: "ignore" });
  return stdout.toString().split(/\s+/).includes(name);
}

export function fioWords(job: FioJob): string[] {
  const words = [
    "--name=bench",
    `--rw=${job.rw}`,
    `--bs=${job.blockBytes}`,
    `--iodepth=${job.depth}`,
    "--time_based",
    `--runtime=${job.runtimeMs}ms`,
    "--norandommap",
    "--randrepeat=0",
    // No latencies: fio at its fastest.
    ...(job.timed === true ? [] : ["--gtod_reduce=1"]),
    "--eta=never",
    "--output-format=json",
  ];
  if (job.readPercent !== undefined) words.push(`--rwmixread=${job.readPercent}`);
  if (job.target.kind === "nbd") {
    const { uri, connections } = job.target;
    return [...words, "--ioengine=nbd", `--uri=${uri}`, ...jobWords(connections)];
  }
  const { paths, offset, bytes } = job.target;
  return [
    ...words,
    "--ioengine=libaio",
    "--direct=1",
    `--filename=${paths.join(":")}`,
    `--offset=${offset}`,
    `--size=${bytes * paths.length}`, // fio divides it among the files.
  ];
}

function jobWords(connections: number): string[] {
  return connections === 1 ? [] : [`--numjobs=${connections}`, "--group_reporting", "--thread"];
}

/** Sums reads and writes of fio's JSON. */
export function parseFio(text: string): FioResult {
  // Notices come before the JSON.
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as {
    jobs: { error: number; read: FioSide; write: FioSide }[];
  };
  let operations = 0;
  let operationsPerSecond = 0;
  let bytesPerSecond = 0;
  const p99s: number[] = [];
  for (const { error, read, write } of jobs) {
    assert(error === 0, `fio did its job (error ${error})`);
    operations += read.total_ios + write.total_ios;
    operationsPerSecond += read.iops + write.iops;
    bytesPerSecond += read.bw_bytes + write.bw_bytes;
    for (const { clat_ns } of [read, write]) {
      const p99Ns = clat_ns?.percentile?.["99.000000"];
      if (p99Ns !== undefined) p99s.push(p99Ns / 1_000);
    }
  }
  assert(operationsPerSecond > 0, "fio moved something");
  const p99Micros = p99s.length === 0 ? null : Math.max(...p99s);
  return { operations, operationsPerSecond, bytesPerSecond, p99Micros };
}

interface FioSide {
  readonly total_ios: number;
  readonly iops: number;
  readonly bw_bytes: number;
  readonly clat_ns?: { readonly percentile?: Readonly<Record<string, number>> };
}

export async function runFio(job: FioJob): Promise<FioResult> {
  return parseFio(await runToEnd([toolPath("fio")!, ...fioWords(job)]));
}

/** Writes at random places of an NBD export and reads all of it back; throws where it differs. */
export async function verifyWithFio(uri: string, bytes: number): Promise<void> {
  await runToEnd([
    toolPath("fio")!,
    "--name=verify",
    "--ioengine=nbd",
    `--uri=${uri}`,
    "--rw=randwrite",
    "--bs=4k",
    "--iodepth=16",
    `--size=${bytes}`,
    "--verify=crc32c",
    "--verify_state_save=0",
    "--do_verify=1",
    "--verify_fatal=1",
    "--eta=never",
  ]);
}
