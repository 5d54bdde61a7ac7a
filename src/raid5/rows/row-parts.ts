/** What takes stripes of its own is given of the engine: see members/member-parts.ts. */

import type { StripeRunner } from "../stripe/runner.ts";
import type { StripeParts } from "../stripe/stripe-parts.ts";

export interface EngineParts extends StripeParts {
  readonly runner: StripeRunner;
}
