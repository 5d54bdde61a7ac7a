/** Calls of node:fs and their like throw; here that becomes a value. */
import { err, ok, type Result } from "../../base/result.ts";

export function attempt<T>(work: () => T): Result<T, string> {
  try {
    return ok(work());
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  }
}
