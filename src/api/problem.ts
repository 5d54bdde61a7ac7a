/**
 * What went wrong, as RFC 9457 `application/problem+json`: one exhaustive mapping.
 *
 *   type    urn:parityd:problem:<code>, stable       title   the status in words
 *   detail  a sentence that says the way out         errors  what is wrong with which value
 *
 *   uri     where the same can be had in another way, if anywhere
 *
 * A value of the body is named by `pointer` (a JSON pointer as a URI fragment, "#/drives/1"), one
 * of the path or the query by `parameter`.
 */

import type { CommandError } from "../array/protocol.ts";
import { unreachable } from "../base/assert.ts";
import { counted } from "../base/counted.ts";
import { printable } from "../base/printable.ts";

export interface ValueIssue {
  readonly pointer?: string;
  readonly parameter?: string;
  readonly detail: string;
}

/** Refusals of the HTTP face itself. */
export type HttpError =
  | { readonly kind: "bad-json"; readonly detail: string }
  | { readonly kind: "no-route"; readonly path: string }
  | { readonly kind: "method-not-allowed"; readonly method: string; readonly allow: string }
  | { readonly kind: "stale"; readonly etag: string; readonly given: string }
  | { readonly kind: "too-large"; readonly limitBytes: number }
  | { readonly kind: "media-type"; readonly given: string | null }
  | { readonly kind: "bad-request"; readonly code: string; readonly detail: string }
  | { readonly kind: "head-too-large"; readonly limitBytes: number }
  | { readonly kind: "bad-values"; readonly issues: readonly ValueIssue[] }
  | { readonly kind: "unauthorized" }
  | { readonly kind: "too-many-logins"; readonly waitSeconds: number }
  | { readonly kind: "forbidden"; readonly code: string; readonly detail: string }
  | { readonly kind: "key-reused" }
  | { readonly kind: "key-in-use" }
  | { readonly kind: "internal" };

export type ApiError = CommandError | HttpError;

interface Problem {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly issues?: readonly ValueIssue[];
  readonly uri?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const TITLES: Readonly<Record<number, string>> = {
  400: "Bad request",
  401: "Not authenticated",
  403: "Forbidden",
  404: "Not found",
  405: "Method not allowed",
  409: "Wrong state",
  412: "Precondition failed",
  413: "Body too large",
  415: "Unsupported media type",
  422: "Bad values",
  423: "Busy",
  429: "Too many requests",
  431: "Headers too large",
  500: "Failed",
  501: "Not possible on this host",
  503: "Not available now",
  507: "Cannot be recorded",
};

export function problemResponse(error: ApiError): Response {
  const problem = toProblem(error);
  const body = {
    type: `urn:parityd:problem:${problem.code}`,
    title: TITLES[problem.status] ?? "Failed",
    status: problem.status,
    // A sentence for people, which may name what a drive or a client brought.
    detail: printable(problem.detail),
    ...(problem.issues === undefined ? {} : { errors: problem.issues }),
    ...(problem.uri === undefined ? {} : { uri: problem.uri }),
  };
  return new Response(`${JSON.stringify(body)}\n`, {
    status: problem.status,
    headers: { "Content-Type": "application/problem+json", ...problem.headers },
  });
}

function toProblem(error: ApiError): Problem {
  switch (error.kind) {
    case "not-found":
      return { status: 404, code: error.code, detail: error.detail };
    case "conflict":
      return { status: 409, code: error.code, detail: error.detail };
    case "busy":
      return { status: 423, code: error.code, detail: error.detail };
    case "invalid":
    case "unsupported":
      return { status: 422, code: error.code, detail: error.detail };
    case "io":
      return { status: 500, code: error.code, detail: error.detail };
    case "stopping": {
      const headers = { "Retry-After": "5" };
      return { status: 503, code: error.code, detail: error.detail, headers };
    }
    case "unrecorded":
      return { status: 507, code: error.code, detail: error.detail };
    case "unimplemented": {
      const { code, detail, uri } = error;
      return { status: 501, code, detail, ...(uri === undefined ? {} : { uri }) };
    }
    case "forbidden":
      return { status: 403, code: error.code, detail: error.detail };
    default:
      return httpProblem(error);
  }
}

function httpProblem(error: Exclude<HttpError, { kind: "forbidden" }>): Problem {
  switch (error.kind) {
    case "bad-json":
      return { status: 400, code: "bad-json", detail: `the body is not JSON: ${error.detail}` };
    case "no-route": {
      const detail = `there is nothing at ${error.path}; GET /openapi.json lists every call`;
      return { status: 404, code: "no-route", detail };
    }
    case "method-not-allowed": {
      const detail = `${error.method} is not offered here; allowed: ${error.allow}`;
      return {
        status: 405,
        code: "method-not-allowed",
        detail,
        headers: { Allow: error.allow },
      };
    }
    case "stale": {
      const detail = `the array is at ${error.etag}, not ${error.given}: read it again first`;
      return { status: 412, code: "stale", detail, headers: { ETag: error.etag } };
    }
    case "too-large":
      return {
        status: 413,
        code: "too-large",
        detail: `a body holds at most ${error.limitBytes} bytes`,
      };
    case "media-type": {
      const given = error.given === null ? "none was sent" : `"${error.given}" was sent`;
      const detail = `say that the body is JSON: -H 'Content-Type: application/json' (${given})`;
      return { status: 415, code: "media-type", detail, headers: { Accept: "application/json" } };
    }
    case "bad-request":
      return { status: 400, code: error.code, detail: error.detail };
    case "head-too-large": {
      const detail = `the URL and the headers of a request hold at most ${error.limitBytes} bytes`;
      return { status: 431, code: "head-too-large", detail };
    }
    case "bad-values": {
      const first = error.issues[0];
      const where = first?.pointer ?? first?.parameter ?? "";
      const detail = first === undefined ? "a value is wrong" : `${where}: ${first.detail}`;
      return { status: 422, code: "bad-values", detail, issues: error.issues };
    }
    case "unauthorized": {
      const detail = "send the token of the state directory: -H 'Authorization: Bearer TOKEN'";
      const headers = { "WWW-Authenticate": 'Bearer realm="parityd"' };
      return { status: 401, code: "unauthorized", detail, headers };
    }
    case "too-many-logins": {
      const { waitSeconds } = error;
      const detail =
        `this token is wrong, as many from this address were: a good one passes at once, ` +
        `another wrong one is looked into in ${counted(waitSeconds, "second")}`;
      const headers = { "Retry-After": String(waitSeconds) };
      return { status: 429, code: "too-many-logins", detail, headers };
    }
    case "key-reused": {
      const detail = "this Idempotency-Key was used for another request: take a new one";
      return { status: 422, code: "key-reused", detail };
    }
    case "key-in-use": {
      const detail = "the request with this Idempotency-Key is still under way: try again";
      return { status: 409, code: "key-in-use", detail };
    }
    case "internal": {
      const detail = "this is a defect of parityd; its log has the details";
      return { status: 500, code: "internal", detail };
    }
    default:
      return unreachable(error);
  }
}
