/** A POST by the runtime's own client: no redirect, no body of the answer, no connection kept. */
import type { Post } from "./webhook.ts";

export const httpPost: Post = async ({ url, headers, body, ca, signal }) => {
  try {
    const options = { method: "POST", redirect: "manual", keepalive: false } as const;
    const tls = ca === null ? {} : { tls: { ca } };
    const response = await fetch(url, { ...options, ...tls, headers, body, signal });
    // What is not read is not sent: an answer without an end costs nothing.
    void response.body?.cancel().catch(() => {});
    const retryAfter = response.headers.get("retry-after");
    return { kind: "answered", status: response.status, retryAfter };
  } catch (error) {
    // The message of the runtime quotes the URL; its code does not.
    const code = error instanceof Error && "code" in error ? error.code : null;
    return {
      kind: "unreachable",
      why: typeof code === "string" ? whyOf(code, ca) : "no connection",
    };
  }
};

/** Of no authority that is known. */
const UNKNOWN_AUTHORITY = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

/** `ca`: what it was judged by; null: the well-known ones. */
export function whyOf(code: string, ca: string | null): string {
  if (ca !== null || !UNKNOWN_AUTHORITY.has(code)) return code;
  return `${code}: name its certificate, or that of its authority, as caFile of this webhook`;
}
