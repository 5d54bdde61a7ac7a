/** Which host has taken a fenced array over: asked once it is, and shown in its status. */
import type { ArrayEvent, ArrayStatus } from "../array/protocol.ts";
import type { DriveKeeper } from "./drive-keeper.ts";
import { withHolder } from "./drive-refusals.ts";
import type { EventLog } from "./state/event-log.ts";

export class FenceHolders {
  private readonly drives: DriveKeeper;
  private readonly events: EventLog;
  /** By UUID. */
  private readonly holders = new Map<string, string>();

  constructor({ drives, events }: { drives: DriveKeeper; events: EventLog }) {
    this.drives = drives;
    this.events = events;
  }

  /** Its status says so from then on, and an event. */
  async ask(event: ArrayEvent): Promise<void> {
    const { arrayUuid, drive } = event;
    // Who had it the last time may not be who has it now.
    if (arrayUuid !== null) this.holders.delete(arrayUuid);
    const holder = drive === null ? null : await this.drives.holderOf(drive);
    if (holder === null || arrayUuid === null) return;
    this.holders.set(arrayUuid, holder);
    const message = `the reservation of drive ${drive} is held by another host: ${holder}`;
    this.events.append({ ...event, message });
  }

  view(status: ArrayStatus): ArrayStatus {
    const holder = this.holders.get(status.uuid);
    if (status.state !== "fenced" || holder === undefined || status.reason === null) return status;
    return { ...status, reason: withHolder(status.reason, holder) };
  }
}
