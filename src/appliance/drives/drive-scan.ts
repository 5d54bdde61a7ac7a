/**
 * Looks for members that nobody has named yet, on block devices that nobody uses and in folders,
 * and adds them as drives. What is made of each is scan-judge.ts.
 *
 * The look opens for reading alone and holds nothing (helper/drive-look.ts): a device that hangs
 * costs its deadline there, and what is added is opened side by side: in a dry run too, as far as
 * that goes, for who holds a file's lock is known then. One scan at a time.
 */
import type { ArrayStatus, CommandError } from "../../array/protocol.ts";
import { ok, type Result } from "../../base/result.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import type { DriveOpener, LookResult } from "../helper/drive-opener.ts";
import type { ArrayBook } from "../state/array-book.ts";
import type { CallOrder } from "../state/call-order.ts";
import type { Effects } from "../state/effects.ts";
import { judgeScan, type RunningArray, type ScanEntry, type ScanScene } from "./scan-judge.ts";

export type { ScanEntry } from "./scan-judge.ts";

export interface ScanRequest {
  /** The files directly in each are looked at. */
  readonly folders: readonly string[];
}

export interface ScanResult {
  readonly dryRun: boolean;
  /** By path. Files without a superblock are not among them. */
  readonly found: readonly ScanEntry[];
  /** There was more than a scan goes through. */
  readonly isCut: boolean;
}

export interface DriveScanParts {
  readonly drives: DriveKeeper;
  readonly opener: DriveOpener;
  readonly arrays: ArrayBook;
  readonly calls: CallOrder;
  readonly getArray: (uuid: string) => Promise<Result<ArrayStatus, CommandError>>;
}

export class DriveScan {
  private readonly parts: DriveScanParts;

  constructor(parts: DriveScanParts) {
    this.parts = parts;
  }

  run(request: ScanRequest, effects: Effects): Promise<Result<ScanResult, CommandError>> {
    return this.parts.calls.holding(["drives:scan"], async () => {
      const { drives, opener } = this.parts;
      const { folders } = request;
      const dryRun = effects.isDry;
      // What is missing goes to where it was known.
      if (!dryRun) await drives.retryMissing();
      const looked = await opener.look({ paths: [], folders, blockDevices: true });
      const judged = judgeScan(looked, this.scene(await this.running(looked)));
      const found = await Promise.all(judged.map((entry) => this.add(entry, effects)));
      return ok({ dryRun, found, isCut: looked.isCut });
    });
  }

  private async add(entry: ScanEntry, effects: Effects): Promise<ScanEntry> {
    const { path, drive: name } = entry;
    if (entry.outcome !== "would-be-added" || name === null) return entry;
    const added = await this.parts.drives.add({ name, path, direct: true }, effects);
    if (!added.ok) return { ...entry, drive: null, outcome: "left", reason: added.error.detail };
    if (effects.isDry) return entry;
    const { state, detail, superblock } = added.value;
    const uuid = superblock?.arrayUuid ?? null;
    const array = uuid === null ? entry.array : this.parts.arrays.labelOf(uuid);
    return { ...entry, array, outcome: "added", state, reason: detail ?? null };
  }

  /** Of the arrays whose members have been found. */
  private async running({ found }: LookResult): Promise<ScanScene["running"]> {
    const uuids = new Set(found.flatMap(({ member }) => member?.arrayUuid ?? []));
    const running = new Map<string, RunningArray>();
    for (const uuid of uuids) {
      const status = await this.parts.getArray(uuid);
      // What needs nothing to start runs already; an array of nobody's here has no status.
      if (!status.ok || status.value.startNeeds !== null) continue;
      const { eventCount, members, degraded } = status.value;
      const holders = members.flatMap(({ role, drive, state }) =>
        drive !== null && (state === "in-sync" || state === "rebuilding")
          ? [[role, drive] as const]
          : [],
      );
      running.set(uuid, { eventCount, holders: new Map(holders), isWhole: degraded === 0 });
    }
    return running;
  }

  private scene(running: ScanScene["running"]): ScanScene {
    const { drives, arrays } = this.parts;
    const known = drives.known;
    return {
      driveByUuid: new Map(
        known.flatMap(({ name, deviceUuid }) => (deviceUuid === null ? [] : [[deviceUuid, name]])),
      ),
      missing: drives.missingReasons,
      labels: new Map(arrays.all().map(({ uuid }) => [uuid, arrays.labelOf(uuid)])),
      deleted: new Set(arrays.all().flatMap(({ uuid }) => (arrays.isDeleted(uuid) ? [uuid] : []))),
      running,
      takenNames: new Set(known.map(({ name }) => name)),
    };
  }
}
