/**
 * Drives come and go: one that is opened is read and brought together with the array that it says
 * that it belongs to; one that is removed leaves its array first, and owes nothing any more.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { Drive } from "../drives/drive.ts";
import type { CommandError, CommandMap, CommandOf } from "../protocol.ts";
import { commandError } from "../record.ts";
import { arrayKey, driveKey, type Registry } from "../registry.ts";
import { takeBack } from "../start/returning-member.ts";
import { autoStart } from "../start/start.ts";
import type { CommandLeases } from "./command-leases.ts";
import type { FaultBook } from "./faults.ts";
import { foretoldDriveStatus } from "./foretold.ts";
import { rejoinSpare } from "./members.ts";
import { removalObstacle } from "./removal.ts";
import { driveStatus } from "./status.ts";

export class DriveCommands {
  private readonly registry: Registry;
  private readonly leases: CommandLeases;
  private readonly faults: FaultBook;

  constructor(options: { registry: Registry; leases: CommandLeases; faults: FaultBook }) {
    this.registry = options.registry;
    this.leases = options.leases;
    this.faults = options.faults;
  }

  attach({
    drive: info,
  }: CommandOf<"attach-drive">): Promise<
    Result<CommandMap["attach-drive"]["value"], CommandError>
  > {
    const { registry } = this;
    const holder = `adding drive ${info.name}`;
    return this.leases.holding(holder, [driveKey(info.name)], async () => {
      if (registry.drives.has(info.name)) {
        const detail = `there is a drive ${info.name} already`;
        return err(commandError("conflict", "name-in-use", detail));
      }
      const drive = new Drive(registry.context, registry.router, info);
      drive.io.onFenced = () => registry.fenced(drive);
      registry.passing.add(drive);
      const probed = await registry.probe(drive);
      if (!probed.ok) {
        inBackground(this.letGo(drive), null);
        if (drive.isShut) return err(commandError("conflict", "fenced", drive.holderText));
        return err(commandError("io", "drive-unreadable", probed.error.detail));
      }
      registry.passing.delete(drive);
      assert(!registry.drives.has(info.name), "a drive has a name of its own");
      registry.drives.set(info.name, drive);
      const keys = drive.claim === null ? [] : [arrayKey(drive.claim.arrayUuid)];
      return this.leases.holding(holder, keys, async () => {
        await this.join(drive);
        return ok(driveStatus(registry, drive));
      });
    });
  }

  /** What `attach` would answer: the drive is read, and let go of again. */
  foretellAttach({
    drive: info,
  }: CommandOf<"attach-drive">): Promise<
    Result<CommandMap["attach-drive"]["value"], CommandError>
  > {
    const { registry } = this;
    return this.leases.holding(`looking at ${info.name}`, [driveKey(info.name)], async () => {
      const drive = new Drive(registry.context, registry.router, info);
      // What it says of itself concerns no array: it is no drive here.
      drive.io.onFenced = () => drive.tellFence();
      registry.passing.add(drive);
      const probed = await registry.probe(drive);
      const { isShut, holderText } = drive;
      const status = probed.ok ? foretoldDriveStatus(registry, drive) : null;
      // A drive that hangs is not waited for.
      inBackground(this.letGo(drive), null);
      if (status !== null) return ok(status);
      if (isShut) return err(commandError("conflict", "fenced", holderText));
      return err(commandError("io", "drive-unreadable", probed.ok ? "" : probed.error.detail));
    });
  }

  /** Why `detach` would refuse, or that it would not. */
  foretellDetach({
    name,
    force,
  }: CommandOf<"detach-drive">): Promise<
    Result<CommandMap["detach-drive"]["value"], CommandError>
  > {
    const { registry } = this;
    return this.leases.holding(`looking at ${name}`, [driveKey(name)], async () => {
      const drive = registry.drives.get(name);
      if (drive === undefined) return err(unknownDrive(name));
      const running = registry.holderOf(drive)?.running ?? null;
      const obstacle =
        force || running === null ? null : removalObstacle(running, drive, { canForce: true });
      return obstacle === null ? ok({ fd: drive.info.fd }) : err(obstacle);
    });
  }

  /** It is no drive here; its requests have their places until they are answered. */
  private async letGo(drive: Drive): Promise<void> {
    await drive.untilAnswered();
    assert(this.registry.drives.get(drive.name) !== drive, "who is let go of is no drive here");
    this.registry.passing.delete(drive);
    drive.device.close();
  }

  /** Brings a drive together with the array that it says that it belongs to. */
  private async join(drive: Drive): Promise<void> {
    const { registry } = this;
    if (drive.superblock === null) {
      await this.tellWaiting(drive);
      return;
    }
    // Its array was started with it while this waited for that.
    if (registry.holderOf(drive) !== null) return;
    const record = registry.ensureRecord(drive);
    const { running } = record;
    if (running === null) await autoStart(registry, record);
    else if (!(await rejoinSpare(running, drive))) await takeBack(registry, running, drive);
  }

  /** An array that waits for a role says whether this drive, which cannot be used, has it. */
  private async tellWaiting({ claim }: Drive): Promise<void> {
    const record = claim === null ? undefined : this.registry.arrays.get(claim.arrayUuid);
    if (record !== undefined) await autoStart(this.registry, record);
  }

  detach(
    command: CommandOf<"detach-drive">,
  ): Promise<Result<CommandMap["detach-drive"]["value"], CommandError>> {
    const { registry } = this;
    const { name } = command;
    const holder = `removing drive ${name}`;
    return this.leases.holding(holder, [driveKey(name)], async () => {
      const drive = registry.drives.get(name);
      if (drive === undefined) {
        return err(unknownDrive(name));
      }
      return this.leases.holding(holder, registry.arrayKeysOf(drive), () =>
        this.takeOut(drive, command),
      );
    });
  }

  private async takeOut(
    drive: Drive,
    { name, force }: CommandOf<"detach-drive">,
  ): Promise<Result<CommandMap["detach-drive"]["value"], CommandError>> {
    const { registry } = this;
    const running = registry.holderOf(drive)?.running ?? null;
    if (running !== null) {
      const obstacle = force ? null : removalObstacle(running, drive, { canForce: true });
      if (obstacle !== null) return err(obstacle);
      const { roster, members, dismissed } = running.core;
      const role = roster.roleOf(drive);
      // One that had failed is only let go: it may come back.
      if (role >= 0 && members.isPresent(role)) {
        assert(drive.superblock !== null, "a member carries a superblock");
        dismissed.add(drive.superblock.deviceUuid);
      }
      await running.seating.remove(drive, "the drive was removed");
    }
    if (!(await drive.hasAnswered(registry.context))) {
      const detail =
        `drive ${name} has left its array, but ${drive.outstanding} requests are still ` +
        "outstanding on it: it can be let go when they have ended";
      return err(commandError("busy", "drive-busy", detail));
    }
    const isHeld = (registry.holderOf(drive)?.running ?? null) !== null;
    assert(!isHeld, "a drive that is taken out has left its array");
    assert(registry.drives.get(name) === drive, "a drive that is taken out was here");
    const record = registry.recordOf(drive);
    registry.drives.delete(name);
    this.faults.forget(name);
    drive.device.close();
    if (record !== null) registry.dropIfEmpty(record);
    else await this.tellWaiting(drive);
    return ok({ fd: drive.info.fd });
  }
}

function unknownDrive(name: string): CommandError {
  return commandError("not-found", "unknown-drive", `there is no drive ${name}`);
}
