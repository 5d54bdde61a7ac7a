/**
 * A client whose every request the oracle knows: what it writes is stamped and entered as it begins
 * and as it ends, and what it reads is judged.
 *
 * `survives` says what outlives the end that the test is about. A power cut leaves what was flushed
 * or FUA; a killed process takes nothing with it that the kernel has completed, so that there every
 * answered write is as good as flushed.
 */
import { SECTOR_BYTES } from "../../../src/base/units.ts";
import type { SectorOracle, Violation, WriteContent } from "./oracle.ts";
import type { SimClient, ZeroOptions } from "./sim-clients.ts";

export type Survival = "flushed" | "answered";

export interface SectorRange {
  readonly lba: number;
  readonly sectors: number;
}

export class OracleClient {
  readonly oracle: SectorOracle;
  private readonly client: SimClient;
  private readonly survives: Survival;

  constructor(oracle: SectorOracle, client: SimClient, survives: Survival = "flushed") {
    this.oracle = oracle;
    this.client = client;
    this.survives = survives;
  }

  /** The answer is the status. */
  write(range: SectorRange, { fua = false } = {}): Promise<number> {
    return this.change(range, "stamp", fua, (version) => {
      const data = new Uint8Array(range.sectors * SECTOR_BYTES);
      this.oracle.fill(data, range.lba, version);
      return this.client.write(range.lba * SECTOR_BYTES, data, { fua });
    });
  }

  zero(range: SectorRange, options: ZeroOptions = {}): Promise<number> {
    const [offset, bytes] = [range.lba * SECTOR_BYTES, range.sectors * SECTOR_BYTES];
    return this.change(range, "zero", options.fua ?? false, () =>
      this.client.zero(offset, bytes, options),
    );
  }

  /** Of whole stripes: the others stay as they are. */
  trim(range: SectorRange): Promise<number> {
    const [offset, bytes] = [range.lba * SECTOR_BYTES, range.sectors * SECTOR_BYTES];
    return this.change(range, "trim", false, () => this.client.trim(offset, bytes));
  }

  async flush(): Promise<number> {
    const flush = this.oracle.beginFlush();
    const status = await this.client.flush();
    this.oracle.endFlush(flush, { isDone: status === 0 });
    return status;
  }

  /** The status, or the first sector that is wrong. */
  async read({ lba, sectors }: SectorRange): Promise<number | Violation> {
    const token = this.oracle.beginRead(lba, sectors);
    const { status, data } = await this.client.read(lba * SECTOR_BYTES, sectors * SECTOR_BYTES);
    if (status === 0) return this.oracle.endRead(token, data) ?? 0;
    this.oracle.dropRead(token);
    return status;
  }

  private async change(
    { lba, sectors }: SectorRange,
    content: WriteContent,
    fua: boolean,
    send: (version: number) => Promise<number>,
  ): Promise<number> {
    const version = this.oracle.beginWrite(lba, sectors, content);
    const status = await send(version);
    const isDurable = fua || (this.survives === "answered" && content !== "trim");
    this.oracle.endWrite(version, status !== 0 ? "failed" : isDurable ? "done-fua" : "done");
    return status;
  }
}
