/**
 * Takes the body of a request before any schema sees it: its size, its media type, its syntax.
 *
 * An absent body counts as `{}`, so that a call whose values all have defaults needs none, and one
 * with required values says which (422) instead of complaining about the body.
 */
import { err, ok, type Result } from "../base/result.ts";
import type { ApiError } from "./problem.ts";

export const BODY_LIMIT_BYTES = 64 * 1024;

export async function readJsonBody(request: Request): Promise<Result<string, ApiError>> {
  const tooLarge = { kind: "too-large", limitBytes: BODY_LIMIT_BYTES } as const;
  if (Number(request.headers.get("content-length") ?? 0) > BODY_LIMIT_BYTES) return err(tooLarge);
  const bytes = await readAtMost(request.body, BODY_LIMIT_BYTES);
  if (bytes === null) return err(tooLarge);
  if (bytes.length === 0) return ok("{}");
  const mediaType = request.headers.get("content-type");
  if (!isJson(mediaType)) return err({ kind: "media-type", given: mediaType });
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    JSON.parse(text);
    return ok(text);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return err({ kind: "bad-json", detail });
  }
}

function isJson(mediaType: string | null): boolean {
  const essence = (mediaType ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  return essence === "application/json";
}

/** The whole body, or null when it is longer than `limitBytes`. */
async function readAtMost(
  body: ReadableStream<Uint8Array> | null,
  limitBytes: number,
): Promise<Uint8Array | null> {
  if (body === null) return new Uint8Array(0);
  const chunks: Uint8Array[] = [];
  let totalBytes = 0;
  for await (const chunk of body) {
    totalBytes += chunk.length;
    if (totalBytes > limitBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
