/**
 * Goal: the numbers that the benchmark prints follow from its samples: medians, ratios, verdicts,
 * raw limits, what fio is asked and what it says; and the data check sees what is wrong.
 *
 * Method: pure functions on samples that can be worked out by hand; the member traffic is counted
 * again, stripe by stripe, over a whole turn of the parity.
 */
import { describe, expect, test } from "bun:test";
import { KIB } from "../../../src/base/units.ts";
import { type FioJob, fioWords, parseFio } from "../../bench/fio.ts";
import { Latencies } from "../../bench/latencies.ts";
import { formatNumber, toJson, toMarkdown } from "../../bench/report.ts";
import { fillBodies, isRowIntact, stampRow, WORDS_PER_ROW } from "../../bench/stamps.ts";
import { limit, measure, meets, type Row, summarize, value } from "../../bench/statistics.ts";
import { memberTraffic, readPercent, rebuildLimit, requestLimit } from "../../bench/traffic.ts";

describe("summarize", () => {
  test("summarize: odd, even and single samples: median, least and most", () => {
    expect(summarize([30, 10, 20])).toEqual({ median: 20, min: 10, max: 30 });
    expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
    expect(summarize([7])).toEqual({ median: 7, min: 7, max: 7 });
  });

  test("summarize: numbers that sort differently as text: sorted as numbers", () => {
    expect(summarize([100, 9, 20])).toEqual({ median: 20, min: 9, max: 100 });
  });

  test("summarize: the samples given: left in their order", () => {
    const samples = [3, 1, 2];
    summarize(samples);
    expect(samples).toEqual([3, 1, 2]);
  });

  test("summarize: no sample: refused", () => {
    expect(() => summarize([])).toThrow();
  });
});

test("meets: at, above and below the target, both ways: as the direction says", () => {
  expect(meets(0.9, 0.9, "higher")).toBe(true);
  expect(meets(0.89, 0.9, "higher")).toBe(false);
  expect(meets(1, 1, "lower")).toBe(true);
  expect(meets(1.01, 1, "lower")).toBe(false);
  expect(meets(5, null, "lower")).toBeNull();
});

describe("measure", () => {
  test("measure: two quantities, three rounds: interleaved, medians on each side", async () => {
    const order: string[] = [];
    const ours = [100, 300, 200];
    const theirs = [50, 10, 100];
    const rows = await measure(
      [
        {
          name: "a",
          warmUp: async () => order.push("warm a"),
          sample: async () => {
            order.push("a");
            return ours.shift()!;
          },
        },
        {
          name: "b",
          sample: async () => {
            order.push("b");
            return { rate: theirs.shift()!, other: 0 };
          },
        },
      ],
      [
        {
          name: "row",
          unit: "IOPS",
          better: "higher",
          ours: value("a"),
          reference: { name: "half", of: (values) => values("b.rate") / 2 },
          target: 0.9,
        },
      ],
      3,
    );
    expect(order).toEqual(["warm a", "a", "b", "a", "b", "a", "b"]);
    expect(rows).toEqual([
      {
        name: "row",
        unit: "IOPS",
        better: "higher",
        ours: { median: 200, min: 100, max: 300 },
        reference: { name: "half", median: 25, min: 5, max: 50 },
        ratio: 8,
        target: 0.9,
        ok: true,
      },
    ]);
  });

  test("measure: a row with latencies: medians of each percentile on each side", async () => {
    const sides = ["a", "b"].map((name, index) => {
      let round = 0;
      return {
        name,
        sample: async () => {
          round += 1;
          const p50 = 10 * round + index;
          return { rate: 1, p50, p99: 2 * p50, p999: 3 * p50 };
        },
      };
    });
    const plan = { name: "r", unit: "IOPS", better: "higher", target: null } as const;
    const rates = { ours: value("a.rate"), reference: { name: "b", of: value("b.rate") } };
    const latencies = { ours: "a", reference: "b" };
    const [row] = await measure(sides, [{ ...plan, ...rates, latencies }], 3);
    expect(row!.latencyMicros).toEqual({
      ours: { p50: 20, p99: 40, p999: 60 },
      reference: { p50: 21, p99: 42, p999: 63 },
    });
  });

  test("measure: a row over something that was not measured: refused", async () => {
    const row = { name: "r", unit: "ms", better: "lower", target: 1 } as const;
    const plan = { ...row, ours: value("missing"), reference: limit(1) };
    await expect(measure([], [plan], 1)).rejects.toThrow("missing");
  });
});

/** Counts member I/O of single-row requests over all roles of parity, target and missing member. */
function countedTraffic(kind: "read" | "write", n: number, isDegraded: boolean) {
  let reads = 0;
  let writes = 0;
  let cases = 0;
  for (let parity = 0; parity < n; parity += 1) {
    for (let role = 0; role < n; role += 1) {
      if (role === parity) continue;
      const missing = isDegraded ? 0 : -1;
      cases += 1;
      if (kind === "read") reads += role === missing ? n - 1 : 1;
      else if (missing === parity) writes += 1;
      else if (missing === role) {
        reads += n - 2;
        writes += 1;
      } else {
        reads += isDegraded ? 2 : Math.min(2, n - 2);
        writes += 2;
      }
    }
  }
  return { reads: reads / cases, writes: writes / cases };
}

describe("traffic", () => {
  test("memberTraffic: 3 to 16 members, healthy and degraded: as counted stripe by stripe", () => {
    for (let n = 3; n <= 16; n += 1) {
      for (const isDegraded of [false, true]) {
        for (const kind of ["read", "write"] as const) {
          const counted = countedTraffic(kind, n, isDegraded);
          const traffic = memberTraffic(kind, n, isDegraded);
          expect(traffic.reads).toBeCloseTo(counted.reads, 9);
          expect(traffic.writes).toBeCloseTo(counted.writes, 9);
        }
      }
    }
  });

  test("memberTraffic: half reads, half writes: the mean of both", () => {
    expect(memberTraffic("mixed", 4, false)).toEqual({ reads: 1.5, writes: 1 });
  });

  test("limits: of 4 members: worked out by hand", () => {
    const write = memberTraffic("write", 4, false);
    expect(readPercent(write)).toBe(50);
    expect(requestLimit(write, 400_000)).toBe(100_000);
    expect(readPercent(memberTraffic("read", 4, true))).toBe(100);
    expect(requestLimit(memberTraffic("read", 4, true), 300)).toBe(200);
    expect(rebuildLimit(4, 3, 1)).toBe(0.5);
  });
});

describe("fio", () => {
  const base = { rw: "randrw", blockBytes: 4 * KIB, depth: 32, runtimeMs: 300 } as const;

  test("fioWords: members: each file is used from the offset on", () => {
    const target = { kind: "files", paths: ["/a", "/b"], offset: 8192, bytes: 4096 } as const;
    const job: FioJob = { ...base, readPercent: 50, target };
    const words = fioWords(job);
    expect(words).toContain("--filename=/a:/b");
    expect(words).toContain("--offset=8192");
    expect(words).toContain("--size=8192");
    expect(words).toContain("--rwmixread=50");
    expect(words).toContain("--ioengine=libaio");
    expect(words).toContain("--direct=1");
    expect(words).toContain("--runtime=300ms");
  });

  test("fioWords: an NBD export: one job for each connection", () => {
    const uri = "nbd+unix:///x?socket=/s";
    const one = fioWords({ ...base, target: { kind: "nbd", uri, connections: 1 } });
    expect(one).toContain(`--uri=${uri}`);
    expect(one.some((word) => word.startsWith("--numjobs"))).toBe(false);
    const four = fioWords({ ...base, target: { kind: "nbd", uri, connections: 4 } });
    expect(four).toContain("--numjobs=4");
  });

  const side = (iops: number) => ({ iops, bw_bytes: iops * 4096, total_ios: iops / 2 });

  test("parseFio: a notice before the JSON, reads and writes: summed", () => {
    const jobs = [{ error: 0, read: side(1000), write: side(500) }];
    expect(parseFio(`note: both offset\n${JSON.stringify({ jobs })}`)).toEqual({
      operations: 750,
      operationsPerSecond: 1500,
      bytesPerSecond: 1500 * 4096,
      p99Micros: null,
    });
  });

  test("fio: latencies where they are asked for: the longer p99 of reads and writes", () => {
    const target = { kind: "nbd", uri: "nbd+unix:///x?socket=/s", connections: 1 } as const;
    expect(fioWords({ ...base, target })).toContain("--gtod_reduce=1");
    expect(fioWords({ ...base, target, timed: true })).not.toContain("--gtod_reduce=1");
    const timed = (p99Ns: number) => ({
      ...{ ...side(10), clat_ns: { percentile: { "99.000000": p99Ns } } },
    });
    const jobs = [{ error: 0, read: timed(41_000), write: timed(52_000) }];
    expect(parseFio(JSON.stringify({ jobs })).p99Micros).toBe(52);
  });

  test("parseFio: an error, or nothing moved: refused", () => {
    const failed = [{ error: 5, read: side(1), write: side(0) }];
    expect(() => parseFio(JSON.stringify({ jobs: failed }))).toThrow("error 5");
    const idle = [{ error: 0, read: side(0), write: side(0) }];
    expect(() => parseFio(JSON.stringify({ jobs: idle }))).toThrow("moved something");
  });
});

describe("latencies", () => {
  test("Latencies: from 1 ns to seconds: percentiles right to 0.4 %, the longest exact", () => {
    const latencies = new Latencies();
    const samples: number[] = [];
    for (let ns = 1; ns < 4e9; ns = Math.ceil(ns * 1.01)) {
      samples.push(ns);
      latencies.note(ns);
    }
    for (const share of [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
      const exact = samples[Math.ceil(share * samples.length) - 1]! / 1000;
      expect(Math.abs(latencies.percentile(share) / exact - 1)).toBeLessThan(0.004);
    }
    expect(latencies.longest).toBe(samples.at(-1)! / 1000);
  });

  test("Latencies: below 256 ns: exact; what is cleared: forgotten", () => {
    const latencies = new Latencies();
    latencies.note(1e9);
    latencies.clear();
    for (let ns = 1; ns <= 255; ns += 1) latencies.note(ns);
    for (const ns of [1, 100, 255]) expect(latencies.percentile(ns / 255)).toBe(ns / 1000);
  });

  test("Latencies: longer than can be counted: the longest there is room for", () => {
    const latencies = new Latencies();
    latencies.note(1e13);
    expect(latencies.percentile(0.5)).toBeCloseTo(4_294_967, -5);
    expect(latencies.longest).toBe(1e10);
  });

  test("Latencies: none: no percentile", () => {
    expect(() => new Latencies().percentile(0.5)).toThrow();
  });
});

describe("stamps", () => {
  const words = new Uint32Array(2 * WORDS_PER_ROW);
  const write = () => {
    fillBodies(words, 0, 2, 7);
    stampRow(words, 0, 41, 3, 7);
    stampRow(words, WORDS_PER_ROW, 42, 3, 7);
  };

  test("isRowIntact: rows as they were written: yes", () => {
    write();
    expect(isRowIntact(words, 0, 41, 3)).toBe(true);
    expect(isRowIntact(words, WORDS_PER_ROW, 42, 3)).toBe(true);
  });

  test("isRowIntact: another row or an older write: no", () => {
    write();
    expect(isRowIntact(words, 0, 42, 3)).toBe(false);
    expect(isRowIntact(words, 0, 41, 4)).toBe(false);
  });

  test("isRowIntact: any single word changed: no", () => {
    for (let word = 0; word < WORDS_PER_ROW; word += 1) {
      write();
      words[word]! ^= 1;
      expect(isRowIntact(words, 0, 41, 3)).toBe(false);
    }
  });
});

describe("report", () => {
  const row: Row = {
    name: "row",
    unit: "ms",
    better: "lower",
    ours: { median: 1, min: 0.5, max: 2 },
    reference: { name: "limit", median: 2, min: 2, max: 2 },
    ratio: 0.5,
    target: 1,
    ok: true,
  };
  const report = {
    mode: "quick",
    machine: { cpu: "C", cores: 2, memoryMib: 1, kernel: "6", bun: "1", tools: { fio: "3.33" } },
    load: { before: [1, 2, 3], after: [4, 5, 6] },
    rows: [row, { ...row, name: "slow", ratio: 1.5, ok: false }],
    leftOut: [{ name: "loop rows", reason: "no root" }],
    failures: [],
  };

  test("toMarkdown: rows, machine, load and what is left out: all there", () => {
    const text = toMarkdown(report);
    expect(text).toContain("| row | ms | 1.00 (0.500 to 2.00) | limit | 2.00 | 0.50 | ≤ 1 | yes |");
    expect(text).toContain("| slow | ms |");
    expect(text).toContain("**no**");
    expect(text).toContain("1 of 2 targets met.");
    expect(text).toContain("C, 2 cores, 1 MiB, Linux 6, Bun 1, fio 3.33");
    expect(text).toContain("Load average: 1 2 3 before, 4 5 6 after");
    expect(text).toContain("Left out: loop rows: no root.");
  });

  test("toMarkdown: rows with latencies: a table of their own; without any: none", () => {
    const percentiles = (p50: number) => ({ p50, p99: 2 * p50, p999: 30 * p50 });
    const latencyMicros = { ours: percentiles(44), reference: percentiles(1000) };
    const text = toMarkdown({ ...report, rows: [row, { ...row, name: "r2", latencyMicros }] });
    expect(text).toContain("\n\n| µs: p50 / p99 / p99.9 | parityd | Reference |  |\n");
    expect(text).toContain("| r2 | 44.0 / 88.0 / 1320 | limit | 1000 / 2000 / 30k |\n");
    expect(text).not.toContain("| row | 44");
    expect(toMarkdown(report)).not.toContain("p50");
  });

  test("toJson: the report: survives the round trip", () => {
    expect(JSON.parse(toJson(report))).toEqual(report);
  });

  test("formatNumber: from tiny to large: three digits that count", () => {
    const cases: [number, string][] = [
      [0, "0"],
      [0.000012, "1.2e-5"],
      [0.0123, "0.0123"],
      [1.234, "1.23"],
      [123.4, "123"],
      [4321, "4321"],
      [65_432, "65k"],
      [12_345_678, "12.3M"],
    ];
    for (const [number, text] of cases) expect(formatNumber(number)).toBe(text);
  });
});
