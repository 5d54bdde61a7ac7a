/**
 * GET / and /assets/*: the page, from memory.
 *
 * The page is the same for everybody and holds nothing, so it needs no token; its calls do. What it
 * may load, and where it may be shown, is said by headers: nothing but its own files, no inline
 * script or style, no frame around it.
 */
import type { ApiApp, ApiContext } from "../route.ts";
import type { PageFile } from "./page-file.ts";

const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  Vary: "Accept-Encoding",
};

/** On the answer to GET /: the calls of the page need a token here. */
export const TOKEN_HEADER = "Parityd-Token";

/** Whether a path is one of the page's own: it is open to who has no token. */
export function isPagePath(path: string): boolean {
  return path === "/" || path.startsWith("/assets/");
}

export function addPageRoutes(app: ApiApp, files: readonly PageFile[]): void {
  for (const file of files) app.get(file.path, (context) => fileAnswer(context, file));
}

function fileAnswer(context: ApiContext, { path, contentType, hash, gzip }: PageFile): Response {
  const headers: Record<string, string> = {
    ...HEADERS,
    ETag: `"${hash}"`,
    "Cache-Control": path === "/" ? "no-cache" : "public, max-age=31536000, immutable",
  };
  if (path === "/" && context.env?.transport !== "unix") headers[TOKEN_HEADER] = "required";
  const known = (context.req.header("if-none-match") ?? "").split(",");
  if (known.some((tag) => tag.trim().replace(/^W\//, "") === `"${hash}"`)) {
    return new Response(null, { status: 304, headers });
  }
  headers["Content-Type"] = contentType;
  if (!/\bgzip\b/.test(context.req.header("accept-encoding") ?? "")) {
    return new Response(Bun.gunzipSync(gzip), { headers });
  }
  return new Response(gzip, { headers: { ...headers, "Content-Encoding": "gzip" } });
}
