/**
 * The marks of an oracle in a file that a power cut of the guest does not touch: a line of JSON for
 * each, written before what it tells of goes on. Afterwards they make the oracle again, which says
 * what each sector may hold.
 */
import { openSync, writeSync } from "node:fs";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { readStamp } from "../../src/nbd/client/load/stamp.ts";
import { type OracleMark, SectorOracle } from "../sim/world/oracle.ts";
import type { NbdLink } from "../sim/world/sim-clients.ts";
import { judgeSectors } from "./stamp-load.ts";

/** A new file; what it answers with writes a mark to it. */
export function openMarkLedger(path: string): (mark: OracleMark) => void {
  const file = openSync(path, "ax");
  return (mark) => {
    writeSync(file, `${JSON.stringify(mark)}\n`);
  };
}

/** What a ledger says of an array that was all zeros before, after the cut. */
export class CutOracle {
  /** Writes that were answered before a flush began which has succeeded. */
  readonly flushedCount: number;
  private readonly oracle: SectorOracle;

  constructor(options: { seed: number; sizeBytes: number; ledger: string }) {
    const { seed, sizeBytes, ledger } = options;
    this.oracle = new SectorOracle({ seed, sectorCount: sizeBytes / SECTOR_BYTES });
    let answeredCount = 0;
    const answeredAt = new Map<number, number>();
    this.flushedCount = 0;
    // What stands behind the last end of a line was being written at the cut.
    for (const line of ledger.split("\n").slice(0, -1)) {
      const mark = JSON.parse(line) as OracleMark;
      if (mark.kind === "end" && mark.how === "done") answeredCount += 1;
      if (mark.kind === "flush-begin") answeredAt.set(mark.flush, answeredCount);
      if (mark.kind === "flush-end" && mark.isDone) {
        this.flushedCount = Math.max(this.flushedCount, answeredAt.get(mark.flush)!);
      }
      this.oracle.applyMark(mark);
    }
    this.oracle.crash();
  }

  /** Reads the whole array; what is wrong, and how many sectors are newer than they had to be. */
  async judge(client: NbdLink): Promise<{ wrong: string[]; newer: number }> {
    const { oracle } = this;
    const wrong: string[] = [];
    let newer = 0;
    const all = { offset: 0, bytes: oracle.sectorCount * SECTOR_BYTES };
    const unread = await judgeSectors(client, all, (lba, sector) => {
      const violation = oracle.peek(lba, sector);
      if (violation !== null) wrong.push(violation.message);
      const found = readStamp(sector);
      const least = Math.min(...oracle.allowedVersions(lba));
      if (found.kind === "stamp" && found.stamp.version > least) newer += 1;
    });
    return { wrong: [...wrong, ...unread], newer };
  }
}
