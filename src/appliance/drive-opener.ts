/** What the appliance needs of the helper thread: open and close, which both may block. */
import type { CommandError, OpenDrive } from "../array/protocol.ts";
import type { Result } from "../base/result.ts";

export interface OpenRequest {
  readonly name: string;
  readonly path: string;
  /** O_DIRECT. */
  readonly direct: boolean;
  readonly readOnly: boolean;
}

export interface DriveOpener {
  open(request: OpenRequest): Promise<Result<OpenDrive, CommandError>>;
  close(fd: number): Promise<void>;
}
