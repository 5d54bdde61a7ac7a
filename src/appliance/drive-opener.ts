/** What the appliance needs of the helper thread: the calls that may block. */
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
  /** Makes a range read as zeros without storing them; durable when it answers. */
  punchHole(
    fd: number,
    range: { offset: number; bytes: number },
  ): Promise<Result<null, CommandError>>;
}
