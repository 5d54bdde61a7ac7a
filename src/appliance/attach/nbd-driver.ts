/** What the appliance needs of the kernel's own NBD client, and how a device says whose it is. */
import { dirname, join } from "node:path";
import type { CommandError } from "../../array/protocol.ts";
import { err, type Result } from "../../base/result.ts";

/** One of the kernel's, as /sys shows it. */
export interface NbdDevice {
  readonly index: number;
  /** "/dev/nbd0" */
  readonly path: string;
  /** Nobody has attached anything to it, and nobody keeps one open that was. */
  readonly isFree: boolean;
  /** What whoever attached it said; null: nothing, or nothing is attached. */
  readonly backend: string | null;
}

export interface NbdConnection {
  readonly index: number;
  /** The Unix socket of the NBD server. */
  readonly socketPath: string;
  readonly exportName: string;
  readonly backend: string;
  readonly count: number;
  /** False: `count` connections more, for a device that is attached and has lost some. */
  readonly isNew: boolean;
}

export interface NbdDisconnection {
  readonly index: number;
  /** Else it is `device-in-use` where somebody has it. */
  readonly force: boolean;
  /** Whether it would be refused; the kernel is told nothing. */
  readonly isDry: boolean;
}

export interface NbdDriver {
  /** In the order of their numbers; none: the host has no driver. */
  nbdDevices(): readonly NbdDevice[];
  /** Whether this process may change any of them. */
  isNbdPermitted(): boolean;
  /** Whether memory never waits for a device of ours: else it may, for ever, where it is short. */
  isIoFlusher(): boolean;
  connectNbd(connection: NbdConnection): Promise<Result<null, CommandError>>;
  disconnectNbd(disconnection: NbdDisconnection): Promise<Result<null, CommandError>>;
}

/** A host without one. */
export const NO_NBD_DRIVER: NbdDriver = {
  nbdDevices: () => [],
  isNbdPermitted: () => true,
  isIoFlusher: () => false,
  connectNbd: () => Promise.resolve(err(NO_DRIVER)),
  disconnectNbd: () => Promise.resolve(err(NO_DRIVER)),
};

export const NO_DRIVER: CommandError = {
  kind: "unimplemented",
  code: "no-nbd-driver",
  detail:
    "this host has no driver for network block devices (there is no /dev/nbd0): load it with " +
    "`modprobe nbd` and try again, or open the export by its URI",
};

/** Installed with the executable; not among the examples, which small Debians leave out. */
const DROP_IN = join(dirname(dirname(process.execPath)), "share/parityd/parityd-attach.conf");

/** The unit has not got it: whoever never attaches keeps the smaller set. */
export const NO_PERMISSION: CommandError = {
  kind: "unimplemented",
  code: "no-permission-to-attach",
  detail:
    "the kernel lets only CAP_SYS_ADMIN attach and detach its devices, and this process does not " +
    `have it. For the service: \`install -D -m 644 ${DROP_IN} ` +
    "/etc/systemd/system/parityd.service.d/attach.conf && systemctl daemon-reload && " +
    "systemctl restart parityd`, then try again; or open the export by its URI",
};

export function deviceInUse(path: string, why: string): CommandError {
  return { kind: "conflict", code: "device-in-use", detail: `${path} is in use: ${why}` };
}

/** By the array's UUID: under the same name there may be another array's export tomorrow. */
export function backendOf({ name, arrayUuid }: { name: string; arrayUuid: string }): string {
  return `parityd ${arrayUuid} ${name}`;
}
