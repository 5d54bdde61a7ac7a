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
    return { kind: "unreachable", why: typeof code === "string" ? code : "no connection" };
  }
};
