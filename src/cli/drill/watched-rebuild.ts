/**
 * One rebuild under load from its start to its end: where the cursor is, which faults are posted
 * and have hit, and the throttle, which is lifted when enough has been seen on both sides.
 */
import type { JobStatus } from "../../array/protocol.ts";
import { formatProgress } from "../../base/quantity.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { PhaseRecord } from "../../nbd/client/load/ledger.ts";
import { CursorTally } from "./cursor-tally.ts";
import {
  FAULT_KINDS,
  FaultHarvest,
  type PlannedFault,
  planCuredError,
  planFaults,
} from "./faults.ts";
import type { Load } from "./load.ts";
import { readMember } from "./member-files.ts";
import { CHUNK_BYTES, NEW_DRIVE } from "./options.ts";
import { pathOf, pause, type Stage } from "./stage.ts";

const POLL_MS = 100;
const HANG_MS = 30_000;
/** Throttled until so much is done; there it is held until all of the below has been seen. */
const THROTTLED_SHARE = 0.6;
/** One stripe a second: what is left lasts for longer than it is held. */
const HELD_SPEED = CHUNK_BYTES;
const WRITES_EACH_SIDE = 100;
const FAULTS_OF_EACH_KIND = 3;
/** Then it goes on all the same, and the verdict says what was not seen. */
const THROTTLED_SECONDS_MAX = 40;
const CURED_ERROR_EVERY_MS = 300;
const FULL_SPEED = Number.MAX_SAFE_INTEGER;

/** What keeps the drill from going on under load, or null. */
export function findTrouble(stage: Stage, load: Load): string | null {
  if (stage.daemon.failure !== null) return stage.daemon.failure;
  if (stage.ledger.failures.length > 0) return "the drill stops at a failure under load";
  const silentMs = stage.nowMs() - load.lastAnswerMs;
  return silentMs > HANG_MS ? `no NBD answer for ${Math.round(silentMs / 1_000)} s` : null;
}

export class WatchedRebuild {
  private readonly stage: Stage;
  private readonly load: Load;
  private readonly below: PhaseRecord;
  private readonly tally = new CursorTally();
  private readonly harvest = new FaultHarvest();
  private sources: readonly string[] = [];
  private dataOffsetBytes = 0;
  private round = 0;
  private curedErrorAtMs = 0;
  private pace: "throttled" | "held" | "free" = "throttled";

  constructor(stage: Stage, load: Load, below: PhaseRecord) {
    this.stage = stage;
    this.load = load;
    this.below = below;
    load.tally = this.tally;
  }

  async watch(first: JobStatus, sources: readonly string[]): Promise<Result<undefined, string>> {
    const { stage } = this;
    this.sources = sources;
    const armed = await this.arm();
    if (!armed.ok) return armed;
    const startedMs = stage.nowMs();
    for (;;) {
      const trouble = findTrouble(stage, this.load);
      if (trouble !== null) return err(trouble);
      const job = await stage.api.job(first.id);
      if (!job.ok) return job;
      if (job.value.state !== "running") return judgeEnd(job.value);
      stage.timeline.progress("rebuild", job.value, formatProgress(job.value));
      const sampled = await this.sample(first.id);
      if (!sampled.ok) return sampled;
      const isLate = stage.nowMs() - startedMs > THROTTLED_SECONDS_MAX * 1_000;
      const paced = await this.setPace(job.value, isLate);
      if (!paced.ok) return paced;
      await pause(POLL_MS);
    }
  }

  /** The rebuild is one stretch of time and two phases, by where the writes went. */
  splitPhase(): void {
    const { below, tally, stage } = this;
    const { phases } = stage.ledger;
    below.writesAcknowledged = tally.below;
    const above = { ...below, name: "rebuild-after-cursor", writesAcknowledged: tally.above };
    // What was read back is counted once.
    phases.splice(phases.indexOf(below) + 1, 0, { ...above, bytesVerified: 0 });
  }

  private async arm(): Promise<Result<undefined, string>> {
    const { stage, sources } = this;
    const member = readMember(pathOf(stage, NEW_DRIVE));
    if (!member.ok) return member;
    this.dataOffsetBytes = member.value.dataOffsetBytes;
    const { dataOffsetBytes } = this;
    for (const planned of planFaults({ sources, target: NEW_DRIVE, dataOffsetBytes })) {
      const posted = await this.post(planned);
      if (!posted.ok) return posted;
    }
    return ok();
  }

  private async post({ kind, request }: PlannedFault): Promise<Result<undefined, string>> {
    const fault = await this.stage.api.addFault(request);
    if (!fault.ok) return fault;
    this.harvest.posted(fault.value.id, kind);
    return ok();
  }

  /** Where the cursor is, and what has been injected so far. */
  private async sample(jobId: number): Promise<Result<undefined, string>> {
    const { stage, tally, harvest } = this;
    const taken = tally.beginSample();
    const array = await stage.api.array();
    if (!array.ok) return array;
    const target = array.value.members.find(({ drive }) => drive === NEW_DRIVE);
    if (target?.recoveredBytes !== undefined) tally.sampled(taken, target.recoveredBytes);
    if (stage.nowMs() > this.curedErrorAtMs) {
      this.curedErrorAtMs = stage.nowMs() + CURED_ERROR_EVERY_MS;
      const { sources, dataOffsetBytes, round } = this;
      this.round += 1;
      const planned = planCuredError({ round, sources, target: NEW_DRIVE, dataOffsetBytes });
      const posted = await this.post(planned);
      if (!posted.ok) return posted;
    }
    const faults = await stage.api.faults();
    if (!faults.ok) return faults;
    // Order: the job is asked after the faults, so that what is counted came during the rebuild.
    const job = await stage.api.job(jobId);
    if (!job.ok) return job;
    if (job.value.state !== "running") return ok();
    harvest.absorb(faults.value);
    stage.outcome.faults = harvest.counts();
    return ok();
  }

  private hasSeenAll(): boolean {
    const { tally } = this;
    const counts = this.stage.outcome.faults;
    const hasFaults = FAULT_KINDS.every((kind) => counts[kind] >= FAULTS_OF_EACH_KIND);
    return hasFaults && tally.below >= WRITES_EACH_SIDE && tally.above >= WRITES_EACH_SIDE;
  }

  /** A host that is slow in writing sees little by the time: the rebuild waits for it. */
  private async setPace(
    { done, total }: JobStatus,
    isLate: boolean,
  ): Promise<Result<undefined, string>> {
    const isDue = done > THROTTLED_SHARE * total;
    if (this.pace === "free" || !(isDue || isLate)) return ok();
    if (isLate || this.hasSeenAll()) return this.endThrottle();
    if (this.pace === "held") return ok();
    this.pace = "held";
    const held = await this.stage.api.setSyncSpeed(HELD_SPEED);
    return held.ok ? ok() : held;
  }

  private async endThrottle(): Promise<Result<undefined, string>> {
    const { stage, tally } = this;
    this.pace = "free";
    const freed = await stage.api.setSyncSpeed(FULL_SPEED);
    if (!freed.ok) return freed;
    const seen = `${tally.below} writes below the cursor, ${tally.above} above it`;
    stage.timeline.note(`${seen}: the rebuild goes on unthrottled`);
    return ok();
  }
}

function judgeEnd({ state, error }: JobStatus): Result<undefined, string> {
  if (state === "done") return ok();
  return err(`the rebuild ended ${state}: ${error ?? "no reason on record"}`);
}
