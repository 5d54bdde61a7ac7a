/**
 * The light at a drive's slot, by ledctl (of ledmon): on the enclosures and controllers that it
 * knows. Whether one is on is not remembered: ledctl and the enclosure are asked by whoever wants
 * to know.
 */
import type { CommandError } from "../../array/protocol.ts";
import { printable } from "../../base/printable.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { driveNotFound } from "../drive-refusals.ts";
import type { ToolRunner } from "../host/linux-tool.ts";
import type { Effects } from "../state/effects.ts";
import { type DriveDisks, diskPaths } from "./drive-disks.ts";

export interface Located {
  readonly drive: string;
  /** The physical disks that it lies on: "/dev/sda". */
  readonly disks: readonly string[];
  readonly on: boolean;
}

/**
 * Without the first the lights of all other disks are switched off; without the second it ends in
 * silence (status 40) where /var/log is read-only, as it is for a service that is shut in.
 */
const WORDS = ["--listed-only", "--log=/dev/null"] as const;
const DEADLINE_MS = 10_000;
const OUTPUT_BYTES_MAX = 65_536;

export class Locator {
  private readonly drives: DriveDisks;
  private readonly tools: ToolRunner;

  constructor({ drives, tools }: { drives: DriveDisks; tools: ToolRunner }) {
    this.drives = drives;
    this.tools = tools;
  }

  async locate(
    drive: string,
    on: boolean,
    { isDry }: Effects,
  ): Promise<Result<Located, CommandError>> {
    if (!this.drives.known.some(({ name }) => name === drive)) return err(driveNotFound(drive));
    const disks = diskPaths(this.drives.disksOf([drive]));
    if (disks.length === 0) {
      const detail =
        `drive ${drive} is missing, or lies on no disk that this host can name: look for it by ` +
        "its serial (parityd drive list)";
      return err({ kind: "conflict", code: "no-disk", detail });
    }
    const answer = await this.tools.run({
      program: "ledctl",
      words: isDry
        ? ["--version"]
        : [...WORDS, `${on ? "locate" : "locate_off"}=${disks.join(",")}`],
      key: `ledctl ${disks.join(",")}`,
      deadlineMs: DEADLINE_MS,
      outputBytesMax: OUTPUT_BYTES_MAX,
    });
    if (answer.kind === "exited" && answer.exitCode === 0) return ok({ drive, disks, on });
    return err(problemOf(answer, disks));
  }
}

function problemOf(
  answer: Awaited<ReturnType<ToolRunner["run"]>>,
  disks: readonly string[],
): CommandError {
  const failed = (why: string): CommandError => ({
    ...{ kind: "io", code: "locate-failed" },
    detail: `ledctl ${why} (${disks.join(", ")})`,
  });
  switch (answer.kind) {
    case "absent": {
      const detail = "ledctl is not installed on this host: install ledmon, or go by the serial";
      return { kind: "unsupported", code: "no-ledctl", detail };
    }
    case "failed":
      return failed(`could not be started: ${printable(answer.detail)}`);
    case "exited": {
      const said = answer.complaint === "" ? "nothing more" : printable(answer.complaint);
      return failed(`ended with ${answer.exitCode ?? "a signal"} and said: ${said}`);
    }
    case "stuck":
    case "late":
      return failed(`did not answer within ${DEADLINE_MS / 1_000} s`);
    case "flooded":
      return failed("printed far more than it should");
  }
}
