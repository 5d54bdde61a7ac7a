/** What works on stripes is given of the engine: see members/member-parts.ts. */
import type { MemberParts } from "../members/member-parts.ts";
import type { WritePolicy } from "../policy/write-policy.ts";
import type { RequestTable } from "../request-table.ts";
import type { WriteStreams } from "../write-streams.ts";
import type { StripeOps } from "./ops.ts";
import type { StripeParity } from "./parity.ts";
import type { SegmentTable } from "./segments.ts";

export interface StripeParts extends MemberParts {
  readonly requests: RequestTable;
  readonly streams: WriteStreams;
  readonly policy: WritePolicy;
  readonly ops: StripeOps;
  readonly segments: SegmentTable;
  readonly parity: StripeParity;
}
