/**
 * A key that an answer may leave out, and that is never `undefined`.
 *
 * Of zod's own exactOptional() the OpenAPI document would say that it is required: it asks each
 * schema whether it takes `undefined`, which one of those does not.
 */
import { z } from "@hono/zod-openapi";

export function mayLack<T extends z.ZodType>(schema: T): z.ZodExactOptional<T> {
  return z.optional(schema) as unknown as z.ZodExactOptional<T>;
}
