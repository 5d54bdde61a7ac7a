/**
 * What is done about drives as such, whatever array has them: members that nobody has named are
 * found, disks seen that several drives of an array share, and asked for their health. With that
 * drives are shown.
 */
import type { ArrayStatus, CommandError, DriveStatus } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import type { DriveOpener } from "../helper/drive-opener.ts";
import type { ToolRunner } from "../host/linux-tool.ts";
import type { SharedSpares } from "../spares/shared-spares.ts";
import type { Alarms } from "../state/alarms.ts";
import type { ArrayBook } from "../state/array-book.ts";
import type { CallOrder } from "../state/call-order.ts";
import type { Effects } from "../state/effects.ts";
import type { EventLog } from "../state/event-log.ts";
import type { StateStore } from "../state/state-store.ts";
import { DriveScan, type ScanRequest, type ScanResult } from "./drive-scan.ts";
import { type Located, Locator } from "./locator.ts";
import { SharedDiskWatch } from "./shared-disks.ts";
import { type DriveSmart, SmartWatch } from "./smart-watch.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export type DriveView = DriveStatus & { readonly smart: DriveSmart };

export interface DriveCareParts {
  readonly drives: DriveKeeper;
  readonly opener: DriveOpener;
  readonly arrays: ArrayBook;
  readonly calls: CallOrder;
  readonly spares: SharedSpares;
  readonly store: StateStore;
  readonly events: EventLog;
  readonly alarms: Alarms;
  readonly tools: ToolRunner;
  readonly getArray: (reference: string) => Answer<ArrayStatus>;
}

export class DriveCare {
  private readonly parts: DriveCareParts;
  private readonly scanner: DriveScan;
  private readonly disks: SharedDiskWatch;
  private readonly locator: Locator;
  private readonly smart: SmartWatch;

  constructor(parts: DriveCareParts) {
    this.parts = parts;
    this.scanner = new DriveScan(parts);
    this.locator = new Locator(parts);
    const getArray = async (uuid: string): Promise<ArrayStatus | null> => {
      const found = await parts.getArray(uuid);
      return found.ok ? found.value : null;
    };
    this.disks = new SharedDiskWatch({ ...parts, getArray });
    this.smart = new SmartWatch({
      ...parts,
      listDrives: () => parts.drives.list(),
      labelOf: (uuid) => parts.arrays.labelOf(uuid),
    });
  }

  /** All drives that answer are there: from now on their disks are asked. */
  start(): void {
    this.smart.start();
  }

  stop(): void {
    this.smart.stop();
  }

  /** Members that nobody has named yet, on all block devices and in folders. */
  scan(request: ScanRequest, effects: Effects): Answer<ScanResult> {
    return this.scanner.run(request, effects);
  }

  /** How many drives are missing; what has appeared may be one of them, and is looked at. */
  appeared(path: string, effects: Effects): number {
    const { drives } = this.parts;
    effects.have(() => drives.appeared(path));
    return drives.missingReasons.size;
  }

  /** The light at its slot, on or off. */
  locate(drive: string, on: boolean, effects: Effects): Answer<Located> {
    return this.locator.locate(drive, on, effects);
  }

  arrayView(status: ArrayStatus): ArrayStatus {
    return this.disks.view(status);
  }

  driveView(drive: DriveStatus): DriveView {
    return { ...this.standingView(drive), smart: this.smart.view(drive) };
  }

  /** A drive of a deleted array says so, and a missing one where it belongs. */
  standingView(drive: DriveStatus): DriveStatus {
    const { arrays, spares, store } = this.parts;
    const known = store.state.drives.get(drive.name);
    const uuid = drive.superblock?.arrayUuid ?? known?.arrayUuid ?? null;
    if (uuid === null) return spares.driveView(drive);
    const label = arrays.labelOf(uuid);
    if (drive.state === "missing") {
      return { ...drive, detail: `of array ${label}: ${drive.detail ?? "not there"}` };
    }
    if (!arrays.isDeleted(uuid) || drive.superblock === undefined) return spares.driveView(drive);
    const { member: _member, ...rest } = drive;
    const detail =
      `of the deleted array ${label} (${uuid}): start that to have it back (parityd array ` +
      `start ${label}), or say force where you use the drive`;
    return { ...rest, state: "foreign", detail };
  }
}
