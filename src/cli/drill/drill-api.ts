/** The calls of the HTTP API that the drill makes; each has a limit and says why it failed. */
import type { ArrayStatus, FaultStatus, JobStatus } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { KIB } from "../../base/units.ts";
import type { Answered, DaemonClient } from "../client.ts";
import { within } from "./deadline.ts";
import { ARRAY_NAME, CHUNK_BYTES } from "./options.ts";

const ANSWER_SECONDS = 60;
const ARRAY = `/v1/arrays/${ARRAY_NAME}`;

/** The body of POST /v1/faults: `errno` is a name. */
export interface FaultRequest {
  readonly drive: string;
  readonly op: "read" | "write" | "any";
  readonly at: "submit" | "completion";
  readonly errno?: string;
  readonly offset: number;
  readonly bytes?: number;
  readonly count?: number;
  readonly every?: number;
  readonly delayMs?: number;
  readonly resultBytes?: number;
}

export type FaultView = Pick<FaultStatus, "id" | "injected">;

export class DrillApi {
  private readonly client: DaemonClient;

  constructor(client: DaemonClient) {
    this.client = client;
  }

  /** Adds a file; without O_DIRECT where its file system has none. */
  async addDrive(name: string, path: string): Promise<Result<{ isDirect: boolean }, string>> {
    const direct = await this.ask("POST", "/v1/drives", { name, path });
    if (direct.ok) return ok({ isDirect: true });
    if (!direct.error.includes("O_DIRECT")) return direct;
    const buffered = await this.ask("POST", "/v1/drives", { name, path, direct: false });
    return buffered.ok ? ok({ isDirect: false }) : buffered;
  }

  /** Takes the drive away; of a member that is hot removal. */
  removeDrive(name: string): Promise<Result<null, string>> {
    return this.ask("DELETE", `/v1/drives/${name}`);
  }

  createArray(
    drives: readonly string[],
    memberBytes: number,
  ): Promise<Result<ArrayStatus, string>> {
    return this.ask("POST", "/v1/arrays", {
      name: ARRAY_NAME,
      drives,
      chunkKiB: CHUNK_BYTES / KIB,
      sizeKiB: memberBytes / KIB,
    });
  }

  export(): Promise<Result<unknown, string>> {
    return this.ask("PUT", `/v1/exports/${ARRAY_NAME}`, { array: ARRAY_NAME });
  }

  array(): Promise<Result<ArrayStatus, string>> {
    return this.ask("GET", ARRAY);
  }

  /** In bytes per second of a member, whether clients do I/O or not. */
  setSyncSpeed(speed: number): Promise<Result<ArrayStatus, string>> {
    return this.ask("PATCH", ARRAY, { syncSpeedMin: speed, syncSpeedMax: speed });
  }

  /** Adds a drive to the degraded array; the rebuild job. */
  async addMember(drive: string): Promise<Result<JobStatus, string>> {
    const what = `POST ${ARRAY}/members`;
    const answer = await this.call<JobStatus>("POST", `${ARRAY}/members`, { drive });
    if (!answer.ok) return answer;
    const { status, value } = answer.value;
    return status === 202 ? ok(value) : err(`${what}: ${status} where 202 was due`);
  }

  startCheck(): Promise<Result<JobStatus, string>> {
    return this.ask("POST", `${ARRAY}/scrub`, { mode: "check" });
  }

  job(id: number): Promise<Result<JobStatus, string>> {
    return this.ask("GET", `/v1/jobs/${id}`);
  }

  jobs(): Promise<Result<JobStatus[], string>> {
    return this.ask("GET", "/v1/jobs");
  }

  addFault(fault: FaultRequest): Promise<Result<FaultView, string>> {
    return this.ask("POST", "/v1/faults", fault);
  }

  faults(): Promise<Result<FaultView[], string>> {
    return this.ask("GET", "/v1/faults");
  }

  clearFaults(): Promise<Result<null, string>> {
    return this.ask("DELETE", "/v1/faults");
  }

  private async ask<T>(method: string, path: string, body?: object): Promise<Result<T, string>> {
    const answer = await this.call<T>(method, path, body);
    return answer.ok ? ok(answer.value.value) : answer;
  }

  private async call<T>(
    method: string,
    path: string,
    body?: object,
  ): Promise<Result<Answered<T>, string>> {
    const what = `${method} ${path}`;
    const calling = this.client.call<T>(method, path, body);
    const answer = await within(calling, { seconds: ANSWER_SECONDS, what });
    if (!answer.ok) return answer;
    return answer.value.ok ? answer.value : err(`${what}: ${answer.value.error.message}`);
  }
}
