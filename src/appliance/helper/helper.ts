/**
 * The control thread's end of the helper threads, which make the calls that can block.
 *
 * One device is opened once, whatever its names, also where two opens run at the same time: a path
 * is first asked what it leads to, and that is claimed here before anything is opened. A claim ends
 * when the device is closed, or when the open has failed in the end. So a device whose open missed
 * its deadline stays claimed, and what it opens after all is closed again.
 *
 * A path that hangs in `identify` (a dead server, a dead controller) claims nothing and costs one
 * thread: the threads ask nobody twice who has not answered yet.
 */
import type { CommandError, OpenDrive } from "../../array/protocol.ts";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { GIB } from "../../base/units.ts";
import { isIoFlusher } from "../../reactor/linux-io-flusher.ts";
import { mayAttach, readNbdDevices } from "../attach/linux-nbd-devices.ts";
import type {
  NbdConnection,
  NbdDevice,
  NbdDisconnection,
  NbdDriver,
} from "../attach/nbd-driver.ts";
import { type DeviceClaim, DriveLook } from "./drive-look.ts";
import type {
  DriveOpener,
  FileRoom,
  LookRequest,
  LookResult,
  OpenRequest,
} from "./drive-opener.ts";
import type { OpenedDevice } from "./helper-protocol.ts";
import { type HelperThread, HelperThreads, type SetTimer } from "./helper-threads.ts";

export type { HelperThread } from "./helper-threads.ts";

/** An ext4 extent is 128 MiB at most: a step is some hundred of them, far below the deadline. */
const ALLOCATE_STEP_BYTES = 16 * GIB;

interface Claim extends DeviceClaim {
  phase: "opening" | "open" | "closing";
}

interface ClaimedDevice extends OpenedDevice {
  readonly claim: Claim;
}

export class Helper implements DriveOpener, NbdDriver {
  private readonly threads: HelperThreads;
  private readonly protectedPaths: readonly string[];
  /** By the fd of the drive. */
  private readonly openDevices = new Map<number, ClaimedDevice>();
  private readonly claims = new Set<Claim>();
  private readonly looker: DriveLook;

  constructor(options: {
    startThread: () => HelperThread;
    /** Files and folders of the daemon: what they are, or hold directly, is never a drive. */
    protectedPaths?: readonly string[];
    deadlineMs?: number;
    setTimer?: SetTimer;
  }) {
    this.threads = new HelperThreads(options);
    this.protectedPaths = options.protectedPaths ?? [];
    this.looker = new DriveLook({
      threads: this.threads,
      claims: () => [...this.claims],
    });
  }

  /** Threads that are in a call past its deadline. */
  get stuckCount(): number {
    return this.threads.stuckCount;
  }

  /** Opens and locks a drive. `busy` where anybody has it already, this daemon included. */
  async open(request: OpenRequest): Promise<Result<OpenDrive, CommandError>> {
    const { path } = request;
    const identify = { kind: "identify", path, protectedPaths: this.protectedPaths } as const;
    const known = await this.threads.call<"identify">(identify, { key: path });
    if (!known.ok) return known;
    const { identities } = known.value;
    // Nothing else can run between this check and the claim.
    const holder = this.holderOf(identities);
    if (holder !== null) return err(claimed(path, holder));
    const claim: Claim = { drive: request.name, identities, phase: "opening" };
    this.claims.add(claim);
    const opened = await this.threads.call<"open">(
      { kind: "open", open: request, identities },
      { key: path, onEnd: (result, isLate) => this.endOpen(claim, result, isLate) },
    );
    return opened.ok ? ok(opened.value.drive) : opened;
  }

  /** Closes what `open` opened, and releases its locks: later, where the drive hangs just now. */
  async close(fd: number): Promise<void> {
    const device = this.openDevices.get(fd);
    assert(device !== undefined, "only an open drive is closed");
    // The number may be another drive's as soon as it is closed, before the answer is here.
    this.openDevices.delete(fd);
    device.claim.phase = "closing";
    await this.threads.call<"close">(
      { kind: "close", fds: [fd, ...device.lockFds] },
      {
        key: device.drive.path,
        isOwed: true,
        onEnd: () => {
          this.claims.delete(device.claim);
        },
      },
    );
  }

  async punchHole(
    fd: number,
    range: { offset: number; bytes: number },
  ): Promise<Result<null, CommandError>> {
    const device = this.openDevices.get(fd);
    if (device === undefined) return err(notOpen(fd));
    const call = { kind: "punch-hole", fd, ...range } as const;
    return await this.threads.call<"punch-hole">(call, { key: device.drive.path });
  }

  async allocate(fd: number, bytes: number): Promise<Result<null, CommandError>> {
    const device = this.openDevices.get(fd);
    for (let offset = 0; offset < bytes; offset += ALLOCATE_STEP_BYTES) {
      // Between two steps it may have been closed, and its number given to another drive.
      if (device === undefined || this.openDevices.get(fd) !== device) return err(notOpen(fd));
      const stepBytes = Math.min(ALLOCATE_STEP_BYTES, bytes - offset);
      const call = { kind: "allocate", fd, offset, bytes: stepBytes, endBytes: bytes } as const;
      const step = await this.threads.call<"allocate">(call, { key: device.drive.path });
      if (!step.ok) return step;
    }
    return ok(null);
  }

  async content(fd: number): Promise<Result<string | null, CommandError>> {
    const device = this.openDevices.get(fd);
    if (device === undefined) return err(notOpen(fd));
    const { path, logicalBlockBytes: blockBytes } = device.drive;
    return await this.threads.call<"content">({ kind: "content", fd, blockBytes }, { key: path });
  }

  async room(fd: number): Promise<FileRoom | null> {
    const device = this.openDevices.get(fd);
    if (device === undefined) return null;
    const asked = await this.threads.call<"room">({ kind: "room", fd }, { key: device.drive.path });
    return asked.ok ? asked.value : null;
  }

  /** Null where it cannot be told. */
  async reservation(path: string): Promise<string | null> {
    const options = { key: path, isImpatient: true };
    const asked = await this.threads.call<"reservation">({ kind: "reservation", path }, options);
    return asked.ok ? asked.value : null;
  }

  async diskTrouble(disk: string): Promise<string | null> {
    const options = { key: `disk ${disk}`, isImpatient: true };
    const asked = await this.threads.call<"disk-trouble">({ kind: "disk-trouble", disk }, options);
    return asked.ok ? asked.value : asked.error.detail;
  }

  nbdDevices(): NbdDevice[] {
    return readNbdDevices();
  }

  isNbdPermitted(): boolean {
    return mayAttach();
  }

  isIoFlusher(): boolean {
    return isIoFlusher();
  }

  async connectNbd(connection: NbdConnection): Promise<Result<null, CommandError>> {
    const key = `/dev/nbd${connection.index}`;
    return this.threads.call<"connect-nbd">({ kind: "connect-nbd", ...connection }, { key });
  }

  async disconnectNbd(disconnection: NbdDisconnection): Promise<Result<null, CommandError>> {
    const key = `/dev/nbd${disconnection.index}`;
    const call = { kind: "disconnect-nbd", ...disconnection } as const;
    return this.threads.call<"disconnect-nbd">(call, { key });
  }

  look(request: LookRequest): Promise<LookResult> {
    return this.looker.look(request);
  }

  /** Ends the idle threads. Stuck ones end with the process. */
  stop(): void {
    this.threads.stop();
  }

  private endOpen(claim: Claim, result: Result<OpenedDevice, CommandError>, isLate: boolean): void {
    if (!result.ok) {
      this.claims.delete(claim);
      return;
    }
    const { fd } = result.value.drive;
    claim.phase = "open";
    this.openDevices.set(fd, { ...result.value, claim });
    // Nobody waits for it any more.
    if (isLate) void this.close(fd);
  }

  private holderOf(identities: readonly string[]): Claim | null {
    for (const claim of this.claims) {
      if (claim.identities.some((identity) => identities.includes(identity))) return claim;
    }
    return null;
  }
}

function claimed(path: string, { drive, phase }: Claim): CommandError {
  const doing = phase === "open" ? "already has" : `is still ${phase}`;
  const wait = phase === "open" ? "" : "; try again when that has ended";
  const detail = `drive ${drive} ${doing} this device (${path})${wait}`;
  return { kind: "busy", code: "drive-in-use", detail };
}

function notOpen(fd: number): CommandError {
  return { kind: "conflict", code: "drive-not-open", detail: `no drive is open as fd ${fd}` };
}
