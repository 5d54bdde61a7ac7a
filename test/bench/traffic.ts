/**
 * How much member I/O a request to the array has to cost: the base of the raw limits.
 *
 * n members, one 4 KiB row or one chunk per request, policy resync; per request on average:
 *
 * | request         | reads       | writes   | why                         |
 * |-----------------|-------------|----------|-----------------------------|
 * | read            | 1           | 0        |                             |
 * | read, degraded  | 2(n-1)/n    | 0        | 1/n of them need n-1 reads  |
 * | write           | min(2, n-2) | 2        | read-modify or reconstruct  |
 * | write, degraded | 3(n-2)/n    | 2(n-1)/n | see below                   |
 *
 * A degraded write: where parity is missing (1/n) 1 write; where its own chunk is missing (1/n)
 * n-2 reads and 1 write; otherwise 2 reads and 2 writes.
 */
export interface Traffic {
  readonly reads: number;
  readonly writes: number;
}

export type RequestKind = "read" | "write" | "mixed";

export function memberTraffic(
  kind: RequestKind,
  memberCount: number,
  isDegraded: boolean,
): Traffic {
  const n = memberCount;
  if (kind === "read") return { reads: isDegraded ? (2 * (n - 1)) / n : 1, writes: 0 };
  if (kind === "write") {
    if (!isDegraded) return { reads: Math.min(2, n - 2), writes: 2 };
    return { reads: (3 * (n - 2)) / n, writes: (2 * (n - 1)) / n };
  }
  const read = memberTraffic("read", n, isDegraded);
  const write = memberTraffic("write", n, isDegraded);
  return { reads: (read.reads + write.reads) / 2, writes: (read.writes + write.writes) / 2 };
}

/** Share of reads in that traffic, in percent, as fio takes it. */
export function readPercent({ reads, writes }: Traffic): number {
  return Math.round((100 * reads) / (reads + writes));
}

/** Requests per second to the array that `memberOps` operations per second on members allow. */
export function requestLimit({ reads, writes }: Traffic, memberOps: number): number {
  return memberOps / (reads + writes);
}

/**
 * Bytes per second of one member that a rebuild can reach with one thread, which has to read n-1
 * members and write one: 1 / ((n-1)/R + 1/W).
 */
export function rebuildLimit(memberCount: number, readRate: number, writeRate: number): number {
  return 1 / ((memberCount - 1) / readRate + 1 / writeRate);
}
