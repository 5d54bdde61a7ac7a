/**
 * The exports by name, and through which array front each is served.
 *
 * An export outlives the front behind it: an array may stop (no front; requests are answered
 * ESHUTDOWN) and start again (a new front) while clients stay connected. A front that was replaced
 * is `retiring` until its last request has completed. Until then no request of that export is
 * started on the new one, so that two fronts never have requests of one client under way.
 */

import type { ArrayFront, FrontCompletion } from "../array/front.ts";
import type {
  CommandError,
  ExportAllow,
  ExportLatency,
  ExportStatus,
  NbdAnswerCount,
} from "../array/protocol.ts";
import { assert } from "../base/assert.ts";
import { isPowerOfTwo, SECTOR_BYTES } from "../base/units.ts";
import { AnswerCounts } from "./answer-counts.ts";
import { ExportAccess } from "./export-access.ts";
import { type ExportOffer, equalBytes } from "./handshake.ts";
import { STRING_BYTES_MAX } from "./wire-format.ts";

/** A front that the server has attached to. */
export interface Attachment {
  readonly front: ArrayFront;
  readonly handle: number;
  inFlight: number;
}

export interface NbdExport {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  /** The array's uuid. */
  array: string;
  isReadOnly: boolean;
  /** Which clients may open it. */
  access: ExportAccess;
  attachment: Attachment | null;
  /** Replaced fronts with requests under way. */
  retiring: number;
  connections: number;
  readonly answers: AnswerCounts;
}

export interface ExportSettings {
  readonly name: string;
  /** The array's uuid. */
  readonly array: string;
  /** Null while the array is stopped. */
  readonly front: ArrayFront | null;
  readonly readOnly: boolean;
  /** Null or absent: everybody may open it. */
  readonly allow?: ExportAllow | null;
  /** Also where clients are connected that lose something by it. */
  readonly force?: boolean;
}

interface Retired {
  readonly attachment: Attachment;
  readonly owner: NbdExport;
}

export class ExportTable {
  private readonly byName = new Map<string, NbdExport>();
  private readonly retired: Retired[] = [];
  private readonly onComplete: FrontCompletion;
  private readonly maxRequestBytes: number;

  constructor(options: { onComplete: FrontCompletion; maxRequestBytes: number }) {
    this.onComplete = options.onComplete;
    this.maxRequestBytes = options.maxRequestBytes;
  }

  get isSettled(): boolean {
    return this.retired.length === 0;
  }

  /** Whoever calls has looked at the name (`nameProblem`) and at the clients. */
  set(settings: ExportSettings): NbdExport {
    const { name, array, front, readOnly, allow = null } = settings;
    const access = new ExportAccess(allow);
    let entry = this.byName.get(name);
    if (entry === undefined) {
      entry = {
        name,
        nameBytes: new TextEncoder().encode(name),
        array,
        isReadOnly: readOnly,
        access,
        attachment: null,
        retiring: 0,
        connections: 0,
        answers: new AnswerCounts(),
      };
      this.byName.set(name, entry);
    }
    entry.array = array;
    entry.isReadOnly = readOnly;
    entry.access = access;
    this.replaceFront(entry, front);
    return entry;
  }

  /** Forgets the export. The caller has dropped its connections. */
  remove(entry: NbdExport): void {
    this.replaceFront(entry, null);
    this.byName.delete(entry.name);
  }

  get(name: string): NbdExport | undefined {
    return this.byName.get(name);
  }

  status(): ExportStatus[] {
    return [...this.byName.values()].map(statusOf);
  }

  /** Clients of an array, over all its exports. */
  connectionsOf(array: string): number {
    let count = 0;
    for (const entry of this.byName.values()) if (entry.array === array) count += entry.connections;
    return count;
  }

  answerCounts(): NbdAnswerCount[] {
    return [...this.byName.values()].flatMap((entry) => entry.answers.list(entry.name));
  }

  latencies(): ExportLatency[] {
    return [...this.byName.values()].flatMap((entry) => entry.answers.latencies(entry.name));
  }

  all(): IterableIterator<NbdExport> {
    return this.byName.values();
  }

  /** All exports of the array are served through this front, null while it is stopped. */
  serve(array: string, front: ArrayFront | null): void {
    for (const entry of this.byName.values()) {
      if (entry.array === array) this.replaceFront(entry, front);
    }
  }

  /** Detaches replaced fronts that have nothing under way. True where that ended a wait. */
  settle(): boolean {
    let hasEnded = false;
    for (let index = this.retired.length - 1; index >= 0; index -= 1) {
      const { attachment, owner } = this.retired[index]!;
      if (attachment.inFlight > 0) continue;
      attachment.front.detach(attachment.handle);
      owner.retiring -= 1;
      this.retired.splice(index, 1);
      hasEnded = true;
    }
    return hasEnded;
  }

  /** Lets go of all fronts; `settle` detaches them when nothing is under way. */
  retireAll(): void {
    for (const entry of this.byName.values()) this.replaceFront(entry, null);
  }

  /** The export that clients mean by `name`. */
  resolve(name: Uint8Array): NbdExport | undefined {
    if (name.length === 0) {
      if (this.byName.size !== 1) return undefined;
      for (const entry of this.byName.values()) return entry;
    }
    for (const entry of this.byName.values()) {
      if (equalBytes(entry.nameBytes, name)) return entry;
    }
    return undefined;
  }

  /** Undefined while its array is stopped. */
  offerOf(entry: NbdExport): ExportOffer | undefined {
    if (entry.attachment === null) return undefined;
    const front = entry.attachment.front;
    assert(isPowerOfTwo(front.preferredBytes), "the preferred size is a power of two");
    return {
      name: entry.name,
      nameBytes: entry.nameBytes,
      sizeBytes: front.sizeBytes,
      isReadOnly: entry.isReadOnly || front.isReadOnly,
      isRotational: front.isRotational,
      canTrim: front.canTrim,
      preferredBytes: Math.min(Math.max(front.preferredBytes, SECTOR_BYTES), this.maxRequestBytes),
    };
  }

  private replaceFront(entry: NbdExport, front: ArrayFront | null): void {
    const old = entry.attachment;
    if (old !== null && old.front === front) return;
    if (old !== null) {
      entry.retiring += 1;
      this.retired.push({ attachment: old, owner: entry });
    }
    entry.attachment =
      front === null ? null : { front, handle: front.attach(this.onComplete), inFlight: 0 };
  }
}

/** Why it cannot be the name of an export, or null. */
export function nameProblem(name: string): CommandError | null {
  const { length } = new TextEncoder().encode(name);
  if (length > 0 && length <= STRING_BYTES_MAX) return null;
  const detail = `an export name has 1 to ${STRING_BYTES_MAX} bytes`;
  return { kind: "invalid", code: "bad-export-name", detail };
}

export function statusOf(entry: NbdExport): ExportStatus {
  const { name, array, isReadOnly, connections, attachment } = entry;
  return { name, array, readOnly: isReadOnly, connections, isServed: attachment !== null };
}
