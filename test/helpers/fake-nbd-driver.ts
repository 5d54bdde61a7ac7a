/** The kernel's NBD driver for tests: devices in memory, and what was asked of it. */
import {
  deviceInUse,
  type NbdConnection,
  type NbdDevice,
  type NbdDisconnection,
  type NbdDriver,
} from "../../src/appliance/attach/nbd-driver.ts";
import type { CommandError } from "../../src/array/protocol.ts";
import { err, ok, type Result } from "../../src/base/result.ts";

export class FakeNbdDriver implements NbdDriver {
  /** By index: whose it is; null: free. */
  readonly backends: (string | null)[];
  /** Devices that somebody has mounted. */
  readonly mounted = new Set<number>();
  readonly asked: string[] = [];
  /** What the next calls are answered, until it is null again. */
  refusal: CommandError | null = null;
  /** Whether the process has what the driver asks for. */
  isPermitted = true;
  hasIoFlusher = true;
  /** Before Linux 5.14. */
  isOld = false;

  constructor(count: number) {
    this.backends = new Array<string | null>(count).fill(null);
  }

  nbdDevices(): NbdDevice[] {
    return this.backends.map((backend, index) => ({
      ...{ index, path: `/dev/nbd${index}`, isFree: backend === null },
      backend: this.isOld ? null : backend,
    }));
  }

  isNbdPermitted(): boolean {
    return this.isPermitted;
  }

  isIoFlusher(): boolean {
    return this.hasIoFlusher;
  }

  async connectNbd(connection: NbdConnection): Promise<Result<null, CommandError>> {
    const { index, exportName, backend, count, isNew, socketPath } = connection;
    this.asked.push(
      `${isNew ? "connect" : "join"} nbd${index} ${exportName} x${count} ${socketPath}`,
    );
    if (this.refusal !== null) return err(this.refusal);
    if (isNew) this.backends[index] = backend;
    return ok(null);
  }

  async disconnectNbd(disconnection: NbdDisconnection): Promise<Result<null, CommandError>> {
    const { index, force, isDry } = disconnection;
    if (!isDry) this.asked.push(`disconnect nbd${index}${force ? " by force" : ""}`);
    if (!force && this.mounted.has(index)) return err(deviceInUse(`/dev/nbd${index}`, "mounted"));
    if (isDry) return ok(null);
    this.backends[index] = null;
    return ok(null);
  }
}
