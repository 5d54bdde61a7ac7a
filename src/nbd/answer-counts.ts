/**
 * How many requests of an export were answered, by command and error, and how long that took. One
 * cell of a typed array for each pair: counting costs one addition.
 */
import type { ExportLatency, NbdAnswerCount } from "../array/protocol.ts";
import {
  EINVAL,
  EIO,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ESHUTDOWN,
  errnoName,
} from "../base/errno.ts";
import { LatencyHistogram } from "../base/latency-histogram.ts";
import { Command } from "./wire-format.ts";

/** By command number. DISC has no answer; what has no number of the protocol comes last. */
const OPERATIONS = buildOperations();
const UNKNOWN = OPERATIONS.length - 1;
/** The errors that go on the wire, and none. */
const ERRORS = [0, EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, EOPNOTSUPP, ESHUTDOWN] as const;

function buildOperations(): string[] {
  const names: string[] = [];
  for (const [name, command] of Object.entries(Command)) {
    names[command] = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  }
  return [...names, "unknown"];
}

export class AnswerCounts {
  private readonly cells = new Float64Array(OPERATIONS.length * ERRORS.length);
  private readonly times = OPERATIONS.map(() => new LatencyHistogram());

  /**
   * `error` is 0 or one of the errors of the protocol. It took `tookMs` from its header to its reply,
   * as far as that is the server's: how long a reply is in its socket is up to the client.
   */
  add(command: number, error: number, tookMs: number): void {
    const row = command < UNKNOWN ? command : UNKNOWN;
    let column = 0;
    while (column < ERRORS.length - 1 && ERRORS[column] !== error) column += 1;
    const cell = row * ERRORS.length + column;
    this.cells[cell] = this.cells[cell]! + 1;
    this.times[row]!.note(tookMs);
  }

  /** Those that are not zero. */
  list(exportName: string): NbdAnswerCount[] {
    const list: NbdAnswerCount[] = [];
    for (const [cell, count] of this.cells.entries()) {
      if (count === 0) continue;
      const error = ERRORS[cell % ERRORS.length]!;
      const op = OPERATIONS[Math.floor(cell / ERRORS.length)]!;
      list.push({ export: exportName, op, error: error === 0 ? "none" : errnoName(error), count });
    }
    return list;
  }

  /** Of the operations that there were. */
  latencies(exportName: string): ExportLatency[] {
    const list: ExportLatency[] = [];
    for (const [row, op] of OPERATIONS.entries()) {
      const times = this.times[row]!.read();
      if (times.counts.some((count) => count > 0)) list.push({ export: exportName, op, times });
    }
    return list;
  }
}
