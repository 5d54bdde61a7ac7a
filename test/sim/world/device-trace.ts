/**
 * What all drives of a run did, in one order, with the bytes: from it every crash image can be
 * built (crash-images.ts). `mark` puts the promises made to the client in the same order.
 */
import type { DeviceImage, MediaEvent } from "./media.ts";

export type TraceEvent<Mark> =
  | { readonly kind: "device"; readonly device: number; readonly event: MediaEvent }
  | { readonly kind: "mark"; readonly mark: Mark };

export class DeviceTrace<Mark = unknown> {
  /** The drives as they were when they joined. */
  readonly bases: DeviceImage[] = [];
  readonly events: TraceEvent<Mark>[] = [];

  /** The answer is the drive's number in this trace. */
  join(base: DeviceImage): number {
    this.bases.push(base);
    return this.bases.length - 1;
  }

  record(device: number, event: MediaEvent): void {
    this.events.push({ kind: "device", device, event });
  }

  mark(mark: Mark): void {
    this.events.push({ kind: "mark", mark });
  }
}
