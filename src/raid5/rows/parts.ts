/** What takes stripes of its own is given of the engine: see members/parts.ts. */
import type { StripeParts } from "../stripe/parts.ts";
import type { StripeRunner } from "../stripe/runner.ts";

export interface EngineParts extends StripeParts {
  readonly runner: StripeRunner;
}
