/** The kernel's NBD devices, from /sys/block: read, and none of them touched. */
import { join } from "node:path";
import { listFolder, readText } from "../host/linux-text.ts";
import type { NbdDevice } from "./nbd-driver.ts";

/**
 * | pid                     | the device                                                         |
 * |-------------------------|--------------------------------------------------------------------|
 * | absent                  | is free                                                            |
 * | of whoever attached it  | is attached; `backend` says whose it is, since Linux 5.14          |
 * | 0                       | was detached while somebody has it open, and is free when they end |
 */
export function readNbdDevices(sysRoot = "/sys"): NbdDevice[] {
  const folder = join(sysRoot, "block");
  const devices = listFolder(folder).flatMap((name): NbdDevice[] => {
    const number = /^nbd(\d+)$/.exec(name)?.[1];
    if (number === undefined) return [];
    const read = (attribute: string) => readText(join(folder, name, attribute));
    const pid = read("pid");
    // nbd-client without netlink makes it large before it has a pid.
    const isFree = pid === null && Number(read("size") ?? 0) === 0;
    const backend = pid === null || pid === "0" ? null : read("backend") || null;
    return [{ index: Number(number), path: `/dev/${name}`, isFree, backend }];
  });
  return devices.sort((left, right) => left.index - right.index);
}

/** CAP_SYS_ADMIN, which the driver asks for: bit 21 of what the process may do now. */
const CAP_SYS_ADMIN = 1n << 21n;

/** What is not said is left to the kernel. */
export function mayAttach(procRoot = "/proc"): boolean {
  const status = readText(join(procRoot, "self/status")) ?? "";
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return effective === undefined || (BigInt(`0x${effective}`) & CAP_SYS_ADMIN) !== 0n;
}
