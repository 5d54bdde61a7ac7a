/**
 * The members of a running array as devices that can only be read: what lies below the overlays of
 * a rehearsal. A read goes through the array's own member I/O, so that its drives' deadlines, gates
 * and epochs hold for it, and a member that is gone is failed as by any other read. A bad sector is
 * no news to the array here: nothing is repaired, entered or counted against its member.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { EIO, ENODEV, ETIMEDOUT } from "../../base/errno.ts";
import type { BlockDevice, CompletionHandler } from "../../block/device.ts";
import { Content, type IoUser, Verdict, type VerdictCode } from "../../raid5/members/member-io.ts";
import { Op } from "../../reactor/io-table.ts";
import type { ArrayCore } from "../running/array-core.ts";

export class MemberReaders {
  /** By role. */
  readonly devices: readonly MemberReader[];
  private readonly core: ArrayCore;
  private readonly user: IoUser;

  constructor(core: ArrayCore) {
    this.core = core;
    const { memberIo } = core.engine.parts;
    this.user = memberIo.register(Content.doubtful, (request, role, verdict) => {
      const bytes = core.context.table.bytes[request]!;
      this.devices[role]!.onComplete(request, resultOf(verdict, bytes));
    });
    this.devices = Array.from({ length: core.geometry.memberCount }, (_, role) => {
      return new MemberReader(core, role, (request) => this.read(role, request));
    });
  }

  /** Nothing is under way any more. */
  close(): void {
    this.core.engine.parts.memberIo.unregister(this.user);
  }

  private read(role: number, request: number): void {
    const { core, user } = this;
    const { members, engine, context } = core;
    const { table, timers } = context;
    assert(table.op[request] === Op.read, "nothing is written to a member in a rehearsal");
    if (!members.isPresent(role)) {
      timers.scheduleAfter(0, () => this.devices[role]!.onComplete(request, -ENODEV));
      return;
    }
    const place = table.offset[request]! - members.dataOffset[role]!;
    const bytes = table.bytes[request]!;
    assert(place >= 0, "a rehearsal reads what lies in the data region");
    const address = table.address[request]!;
    const { memberIo } = engine.parts;
    if (memberIo.start(user, Op.read, role, place, bytes, address, request, 0)) return;
    const later = memberIo.untilRoom().then(() => this.read(role, request));
    inBackground(later, core.guard);
  }
}

class MemberReader implements BlockDevice {
  onComplete: CompletionHandler = () => {};
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly submit: (request: number) => void;

  constructor(core: ArrayCore, role: number, submit: (request: number) => void) {
    const drive = core.roster.driveAt(role);
    assert(drive !== null, "who is read in a rehearsal is a member");
    this.name = drive.name;
    this.sizeBytes = drive.info.sizeBytes;
    this.logicalBlockBytes = drive.info.logicalBlockBytes;
    this.submit = submit;
  }
}

/** A verdict as a drive would have said it. */
function resultOf(verdict: VerdictCode, bytes: number): number {
  switch (verdict) {
    case Verdict.done:
      return bytes;
    case Verdict.slow:
      return -ETIMEDOUT;
    case Verdict.gone:
      return -ENODEV;
    default:
      return -EIO;
  }
}
