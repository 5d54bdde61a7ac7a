/**
 * Looks once a second at what the members have done, tells of those that become suspect, and has
 * reads go around one that is far slower than its peers. What a look says is drives/suspicion.ts.
 */
import { assert } from "../../base/assert.ts";
import { Op } from "../../reactor/io-table.ts";
import type { Drive } from "../drives/drive.ts";
import {
  countsOf,
  LOOK_MS,
  lookAt,
  type MemberVerdict,
  type ReadTimes,
  reasonText,
} from "../drives/suspicion.ts";
import type { ArrayCore } from "./array-core.ts";
import type { ReadsAround } from "./reads-around.ts";

interface Seen {
  readonly reads: number;
  readonly readMs: number;
}

export class SuspicionWatch {
  private readonly core: ArrayCore;
  private readonly around: ReadsAround;
  private readonly seen = new Map<Drive, Seen>();
  private stopLooking: (() => void) | null = null;

  constructor(core: ArrayCore, around: ReadsAround) {
    this.core = core;
    this.around = around;
  }

  start(): void {
    assert(this.stopLooking === null, "a watch is started once");
    this.stopLooking = this.core.context.timers.every(LOOK_MS, () => this.look());
  }

  stop(): void {
    this.stopLooking?.();
  }

  private look(): void {
    const { core, around } = this;
    const { members, context, tuning } = core;
    if (core.isFailed) return;
    // Those that hold all of their data.
    const serving = [...core.presentMembers()].filter(({ role }) => {
      return role !== members.rebuildingRole;
    });
    const facts = serving.map(({ role, drive }) => ({
      health: drive.health,
      facts: {
        counters: drive.trouble,
        times: drive.info.isDirect ? this.timesOf(drive) : null,
        probe: around.probeOf(role),
      },
    }));
    const verdicts = lookAt(facts, {
      nowMs: context.clock.nowMs(),
      wallMs: context.clock.wallMs(),
      limits: tuning,
      isComparable: around.canReconstruct && members.copy === null,
    });
    const latencies = verdicts.flatMap(({ latencyMs }) => latencyMs ?? []);
    around.slowestPeerMs = latencies.length === 0 ? null : Math.max(...latencies);
    for (const [index, verdict] of verdicts.entries()) this.act(serving[index]!, verdict);
  }

  private act(
    { role, drive }: { readonly role: number; readonly drive: Drive },
    verdict: MemberVerdict,
  ): void {
    const { core, around } = this;
    drive.health = verdict.health;
    const who = `drive ${drive.name} (role ${role})`;
    for (const reason of verdict.crossed) {
      const text = reasonText(reason, countsOf(drive.health), core.tuning);
      core.emit("member.suspect", "warning", `${who} is suspect: ${text}`, { drive });
    }
    if (verdict.isCleared) {
      core.emit("member.cleared", "info", `${who} is not suspect any more`, { drive });
    }
    if (!verdict.isOutlier || verdict.latencyMs === null) return;
    const text =
      `takes ${verdict.latencyMs.toFixed(1)} ms for a read, and no other member more than ` +
      `${verdict.slowestPeerMs.toFixed(1)} ms`;
    around.begin(role, drive, { isHung: false, text });
  }

  private timesOf(drive: Drive): ReadTimes {
    const { count, milliseconds } = drive.stats;
    const now = { reads: count[Op.read]!, readMs: milliseconds[Op.read]! };
    const before = this.seen.get(drive) ?? now;
    this.seen.set(drive, now);
    const longestMs = drive.stats.takeLongestReadMs();
    const reads = now.reads - before.reads;
    return { reads, sumMs: now.readMs - before.readMs, longestMs: reads === 0 ? 0 : longestMs };
  }
}
