/**
 * Looks what is where: finds drives again whose path has changed, and members nobody has named yet.
 *
 * A look is in no hurry. It asks for one path at a time, so that it takes one thread from those
 * that open, never waits for a drive that has something else to do, and ends early where too many
 * paths do not answer: each of them keeps a thread.
 */
import type {
  FoundDevice,
  LookRequest,
  LookResult,
  TakenDevice,
  UnreadableFolder,
} from "./drive-opener.ts";
import type { HelperCallKind, HelperCallOf, HelperResult } from "./helper-protocol.ts";
import type { HelperThreads } from "./helper-threads.ts";

/** Paths that one look goes through. */
export const LOOK_MAX = 1024;
const LOOK_DEADLINE_MS = 5_000;
export const STUCK_LOOKS_MAX = 4;
const BLOCK_CLASS = "/sys/class/block";

/** A device that is open here or about to be, by all its names. */
export interface DeviceClaim {
  readonly drive: string;
  readonly identities: readonly string[];
}

export class DriveLook {
  private readonly threads: HelperThreads;
  private readonly claims: () => readonly DeviceClaim[];
  /** Calls of looks that are past their deadline. */
  private stuckCount = 0;

  constructor(options: {
    threads: HelperThreads;
    claims: () => readonly DeviceClaim[];
  }) {
    this.threads = options.threads;
    this.claims = options.claims;
  }

  private claimedIdentities(): string[] {
    return this.claims().flatMap(({ identities }) => identities);
  }

  private driveOf(identity: string): string | null {
    return this.claims().find(({ identities }) => identities.includes(identity))?.drive ?? null;
  }

  async look(request: LookRequest): Promise<LookResult> {
    const unanswered = new Set<string>();
    const taken: TakenDevice[] = [];
    const unreadable: UnreadableFolder[] = [];
    const paths = await this.listPaths(request, { unanswered, taken, unreadable });
    const found = new Map<string, FoundDevice>();
    for (const path of paths.slice(0, LOOK_MAX)) {
      const inUse = this.claimedIdentities();
      const seen = await this.ask<"look">({ kind: "look", path, inUse }, path);
      if (seen === null) unanswered.add(path);
      if (seen === null || !seen.ok || seen.value === null) continue;
      const { identity, device } = seen.value;
      if (!found.has(identity)) found.set(identity, device);
    }
    return {
      found: [...found.values()],
      taken,
      unanswered: [...unanswered],
      unreadable,
      isCut: paths.length > LOOK_MAX,
    };
  }

  private async listPaths(
    request: LookRequest,
    {
      unanswered,
      taken,
      unreadable,
    }: { unanswered: Set<string>; taken: TakenDevice[]; unreadable: UnreadableFolder[] },
  ): Promise<string[]> {
    const paths = new Set(request.paths);
    const limit = LOOK_MAX + 1;
    for (const folder of new Set(request.folders)) {
      const listed = await this.ask<"list-folder">({ kind: "list-folder", folder, limit }, folder);
      if (listed === null) unanswered.add(folder);
      else if (!listed.ok) unreadable.push({ path: folder, reason: listed.error.detail });
      else for (const path of listed.value) paths.add(path);
    }
    if (!request.blockDevices) return [...paths];
    const inUse = this.claimedIdentities();
    const call = { kind: "list-block-devices", inUse, limit } as const;
    const listed = await this.ask<"list-block-devices">(call, BLOCK_CLASS);
    if (listed === null) unanswered.add(BLOCK_CLASS);
    for (const { identity, claim, ...device } of listed?.ok === true ? listed.value : []) {
      if (claim === null) paths.add(device.path);
      else taken.push({ ...device, claim, drive: this.driveOf(identity) });
    }
    return [...paths];
  }

  /** Null: no answer in time, or not asked: it or too many others did not answer before. */
  private async ask<K extends HelperCallKind>(
    call: HelperCallOf<K>,
    key: string,
  ): Promise<HelperResult<K> | null> {
    if (this.stuckCount >= STUCK_LOOKS_MAX) return null;
    let hasEnded = false;
    let isCounted = false;
    const onEnd = () => {
      hasEnded = true;
      if (isCounted) this.stuckCount -= 1;
    };
    const options = { key, deadlineMs: LOOK_DEADLINE_MS, isImpatient: true, onEnd };
    const answer = await this.threads.call<K>(call, options);
    if (!hasEnded) {
      isCounted = true;
      this.stuckCount += 1;
    }
    const isNoAnswer = !answer.ok && ["drive-timeout", "drive-busy"].includes(answer.error.code);
    return isNoAnswer ? null : answer;
  }
}
