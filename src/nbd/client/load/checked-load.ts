/**
 * A load that knows every byte: what it writes is stamped, entered in the shadow when it was
 * acknowledged, read back and compared, and nobody else touches the range before that.
 *
 *   hold ─► submit ─► shadow ─► readBack ─► compare ─► release
 *
 * What is refused or wrong stands in the ledger, and the load does not go on. Who writes where, how
 * much at a time and when is for the caller: it hands in the lanes, the links and the ranges.
 */
import { errnoName } from "../../../base/errno.ts";
import type { Result } from "../../../base/result.ts";
import { MIB } from "../../../base/units.ts";
import { HeldRanges } from "./held-ranges.ts";
import { Lanes } from "./lanes.ts";
import type { Ledger, PhaseRecord } from "./ledger.ts";
import type { Shadow } from "./shadow.ts";
import { stampedBytes } from "./stamp.ts";

/** Who carries a load's requests: an NBD client, or another way to an array. Errors are errnos. */
export interface LoadLink {
  write(
    offset: number,
    data: Uint8Array,
    options?: { fua?: boolean },
  ): Promise<Result<undefined, number>>;
  read(offset: number, bytes: number): Promise<Result<Uint8Array, number>>;
  flush(): Promise<Result<undefined, number>>;
}

export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

export interface LoadOptions {
  readonly shadow: Shadow;
  readonly ledger: Ledger;
  /** Stamped into every sector. */
  readonly run: number;
  /** Reads back what was written. */
  readonly checking: LoadLink;
  /** Acknowledged ranges that may wait for being read back, beside one for each lane. */
  readonly checksMax: number;
  /** Called when a write or read was answered: tells a hang. */
  readonly onAnswer?: () => void;
}

export class CheckedLoad {
  readonly shadow: Shadow;
  readonly ledger: Ledger;
  readonly ranges = new HeldRanges();
  readonly lanes: Lanes;
  private readonly options: LoadOptions;
  private readonly checks = new Set<Promise<void>>();
  /** Lanes that wait until there are fewer checks. */
  private readonly waiters: (() => void)[] = [];
  private version = 0;

  constructor(options: LoadOptions) {
    this.options = options;
    this.shadow = options.shadow;
    this.ledger = options.ledger;
    this.lanes = new Lanes(() => this.ledger.failures.length === 0);
  }

  /** Resolves when everything was answered and read back. */
  async ended(): Promise<void> {
    await this.lanes.ended();
    await Promise.all(this.checks);
  }

  /** Writes a range that the caller holds. False where it was not acknowledged. */
  async submit(
    link: LoadLink,
    { offset, bytes }: ByteRange,
    { writer, fua }: { writer: number; fua: boolean },
  ): Promise<boolean> {
    const { ledger, shadow } = this;
    this.version += 1;
    const stamp = { run: this.options.run, version: this.version, writer };
    const data = stampedBytes({ offset, bytes }, stamp);
    const phase: PhaseRecord | null = ledger.phase;
    const written = await link.write(offset, data, { fua });
    this.options.onAnswer?.();
    if (!written.ok) {
      const why = errnoName(written.error);
      ledger.fail(`the write of ${bytes} bytes at ${offset} was refused with ${why}`);
      return false;
    }
    shadow.record(offset, data);
    ledger.acknowledged(bytes, phase);
    return true;
  }

  /** Has a written range read back and compared, then released; waits where too many wait. */
  async readBack(range: ByteRange, handle: number): Promise<void> {
    const check = this.check(range).then(() => {
      this.ranges.release(handle);
      this.checks.delete(check);
      // One for one: were all woken, each end of a check would cost as much as there are lanes.
      this.waiters.shift()?.();
    });
    this.checks.add(check);
    if (this.checks.size <= this.options.checksMax) return;
    await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  /** Reads a range that the caller holds, and compares it. */
  async check({ offset, bytes }: ByteRange): Promise<void> {
    const read = await this.options.checking.read(offset, bytes);
    this.options.onAnswer?.();
    if (read.ok) this.judge(offset, read.value, "under load");
    else {
      const why = errnoName(read.error);
      this.ledger.fail(`the read of ${bytes} bytes at ${offset} was refused with ${why}`);
    }
  }

  /** Compares what was read; `label` says when. */
  judge(offset: number, data: Uint8Array, label: string): void {
    const wrong = this.shadow.findWrong(offset, data);
    if (wrong === null) this.ledger.verified(data.length);
    else this.ledger.fail(`${label}: ${wrong}`);
  }

  async flush(link: LoadLink): Promise<void> {
    const flushed = await link.flush();
    if (!flushed.ok) this.ledger.fail(`FLUSH was refused with ${errnoName(flushed.error)}`);
  }

  /** Every byte of the array, while no lane writes. */
  async checkAll(): Promise<void> {
    const { sizeBytes } = this.shadow;
    for (let offset = 0; offset < sizeBytes; offset += MIB) {
      await this.check({ offset, bytes: Math.min(MIB, sizeBytes - offset) });
    }
  }
}
