/**
 * Plays the control thread for the holes that a reactor asks for: punches them in the real files,
 * or answers what a test says, a moment later.
 */
import { punchHole } from "../../src/appliance/helper/linux-drive.ts";
import type { CommandError, OpenDrive, ReactorMessage } from "../../src/array/protocol.ts";
import type { ArrayHarness } from "./array-harness.ts";

export type PunchRequest = Extract<ReactorMessage, { kind: "punch-hole" }>;

const ANSWER_MS = 1;

export class HolePunching {
  readonly asked: PunchRequest[] = [];
  /** Answers in place of the file where it is not null. */
  failure: (request: PunchRequest) => CommandError | null = () => null;
  /** Called when a hole is asked for. */
  onAsked: (request: PunchRequest) => void = () => {};
  private readonly harness: ArrayHarness;

  constructor(harness: ArrayHarness) {
    const { context } = harness.reactor;
    const { post } = context;
    this.harness = harness;
    Object.assign(context, {
      post: (message: ReactorMessage) => {
        if (message.kind === "punch-hole") this.take(message);
        else post(message);
      },
    });
  }

  /** Adds a drive in which holes can be punched. */
  addDrive(name: string, sizeBytes: number, changes: Partial<OpenDrive> = {}): OpenDrive {
    const file = this.harness.reactor.createDrive({ name, sizeBytes });
    const drive = { ...file, canPunchHoles: true, ...changes };
    this.harness.must({ kind: "attach-drive", drive });
    return drive;
  }

  private take(request: PunchRequest): void {
    this.asked.push(request);
    this.onAsked(request);
    const { timers } = this.harness.reactor.context;
    timers.scheduleAfter(ANSWER_MS, () => {
      const error = this.failure(request) ?? this.punch(request);
      void this.harness.service.handle({ kind: "hole-punched", id: request.id, error });
    });
  }

  private punch(request: PunchRequest): CommandError | null {
    const punched = punchHole(request);
    return punched.ok ? null : punched.error;
  }
}
