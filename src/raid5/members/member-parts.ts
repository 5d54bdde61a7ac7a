/**
 * The parts of one engine that everybody in it works with, as one object that is handed around.
 *
 *   MemberParts               members, their I/O and flushes: whatever touches a member
 *   StripeParts (stripe/)     and requests, policy, stripe operations with their buffers
 *   EngineParts (rows/)       and the runner: whoever takes stripes of its own
 */
import type { EngineEnvironment, EngineHooks } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { Flusher } from "./flusher.ts";
import type { MemberIo } from "./member-io.ts";
import type { MemberSet } from "./member-set.ts";
import type { FailureRecords } from "./unrecorded-failures.ts";

export interface MemberParts {
  readonly environment: EngineEnvironment;
  readonly hooks: EngineHooks;
  readonly geometry: Geometry;
  readonly members: MemberSet;
  readonly memberIo: MemberIo;
  readonly records: FailureRecords;
  readonly flusher: Flusher;
}
