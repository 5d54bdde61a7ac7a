/**
 * The HTTP API: what every request passes before its route, in this order.
 *
 *   0 can the URL be read                            400
 *   1 over TCP: token, scope; Host and Origin        401 403 429
 *   2 is there such a path, with such a method       404 405
 *   3 the body: size, media type, JSON               413 415 400
 *   4 stopping: calls that change something          503
 *   5 If-Match on an array: its event count          412
 *   6 Idempotency-Key: answered once                 409 422
 *   7 the values, by schema                          422
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Next } from "hono";
import type { Appliance } from "../appliance/appliance.ts";
import type { ConfigurableLog } from "../appliance/host/logger.ts";
import { AssertionError } from "../base/assert.ts";
import { judgeTcp, refuseForeignPage, type TcpGuard } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import { arrayOf, CallEvents } from "./call-events.ts";
import { IdempotencyKeys } from "./idempotency.ts";
import { LoginLimit } from "./login-limit.ts";
import type { PageFile } from "./page/page-file.ts";
import { addPageRoutes, isPagePath } from "./page/page-routes.ts";
import { problemResponse, type ValueIssue } from "./problem.ts";
import { type ApiApp, type ApiContext, type ApiEnvironment, DRY_RUN_HEADER } from "./route.ts";
import { addArrayRoutes, etag } from "./routes/arrays.ts";
import { addConfigurationRoutes } from "./routes/configuration.ts";
import { addDriveRoutes } from "./routes/drives.ts";
import { addEventRoutes } from "./routes/events.ts";
import { addExportRoutes } from "./routes/exports.ts";
import { addFaultRoutes } from "./routes/faults.ts";
import { addJobRoutes } from "./routes/jobs.ts";
import { addLogRoutes } from "./routes/log.ts";
import { addMemberRoutes } from "./routes/members.ts";
import { addRehearsalRoutes } from "./routes/rehearsal.ts";
import { addScheduleRoutes } from "./routes/schedules.ts";
import { addScrubRoutes } from "./routes/scrub.ts";
import { addSpareRoutes } from "./routes/spares.ts";
import { addSystemRoutes } from "./routes/system.ts";

export interface ApiOptions {
  readonly appliance: Appliance;
  readonly log: ConfigurableLog;
  /** Absent: nothing is let in over TCP. */
  readonly tcpGuard?: TcpGuard;
  /** The page at `/`; absent: there is none. */
  readonly page?: readonly PageFile[];
  /** A clock for the limit of wrong tokens. */
  readonly nowMs?: () => number;
  /** Silence after which an event stream sends a comment. */
  readonly commentMs?: number;
  /** A programmer error was met: the process cannot go on. */
  readonly onDefect: (error: unknown) => void;
}

const MUTATING = new Set(["POST", "PUT", "PATCH", "DELETE"]);
/** These tell a load balancer whether to come here at all, and nothing else. */
const OPEN_PATHS = new Set(["/-/healthy", "/-/ready"]);

export function createApp(options: ApiOptions): ApiApp {
  const { appliance, log } = options;
  const app: ApiApp = new OpenAPIHono<ApiEnvironment>({
    defaultHook: (result) => {
      if (result.success) return undefined;
      const issues = result.error.issues.map((issue) => valueIssue(result.target, issue));
      return problemResponse({ kind: "bad-values", issues });
    },
  });
  const keys = new IdempotencyKeys(appliance.store);
  const routes = new RouteIndex(app);
  const callEvents = new CallEvents(appliance);
  const guard = options.tcpGuard ?? { grantOf: () => null, hosts: [] };
  const limit = new LoginLimit(options.nowMs);

  app.use(async (context, next) => {
    const { path, method } = context.req;
    const url = new URL(context.req.url);
    if (!canDecode(url)) return problemResponse(BAD_ESCAPE);
    const address = context.env?.peer ?? context.env?.transport ?? "tcp";
    let caller = address;
    if (context.env?.transport === "unix") {
      const foreign = MUTATING.has(method) ? refuseForeignPage(context.req.raw, []) : null;
      if (foreign !== null) return problemResponse(foreign);
    } else if (!OPEN_PATHS.has(path) && !isPagePath(path)) {
      const login = judgeTcp(context.req.raw, { guard, limit, address });
      if (!login.ok) {
        const { error } = login;
        callEvents.loginFailed(address, "code" in error ? error.code : error.kind);
        return problemResponse(error);
      }
      caller = `${address}, token ${login.value.name}`;
      context.env.onKnown?.();
    }
    const methods = routes.methodsOf(path);
    if (methods.length === 0) return problemResponse({ kind: "no-route", path });
    if (!methods.includes(method)) {
      return problemResponse({ kind: "method-not-allowed", method, allow: methods.join(", ") });
    }
    if (!MUTATING.has(method)) return next();
    const isDry = url.searchParams.get("dryRun") === "true";
    context.set("effects", isDry ? appliance.dry : appliance.really);
    const before = callEvents.subjectOf(url.pathname);
    const refusal = await changeSomething(context, next, { appliance, keys });
    const answer = refusal ?? context.res;
    const { status } = answer;
    // The route may have been told so by its body.
    if (context.get("effects").isDry) answer.headers.set(DRY_RUN_HEADER, "true");
    else callEvents.called({ method, path: url.pathname, caller, status, before });
    return refusal;
  });

  addConfigurationRoutes(app, appliance);
  addLogRoutes(app, log);
  addDriveRoutes(app, appliance);
  addArrayRoutes(app, appliance);
  addMemberRoutes(app, appliance);
  addScrubRoutes(app, appliance);
  addRehearsalRoutes(app, appliance);
  addSpareRoutes(app, appliance);
  addScheduleRoutes(app, appliance);
  addExportRoutes(app, appliance);
  addJobRoutes(app, appliance);
  addFaultRoutes(app, appliance);
  addEventRoutes(app, appliance, options.commentMs ?? 15_000);
  addSystemRoutes(app, appliance);
  addPageRoutes(app, options.page ?? []);

  app.onError((error) => {
    log.write("error", "a request met a defect", { error: error.stack ?? error.message });
    if (error instanceof AssertionError) options.onDefect(error);
    return problemResponse({ kind: "internal" });
  });
  return app;
}

async function changeSomething(
  context: ApiContext,
  next: Next,
  { appliance, keys }: { appliance: Appliance; keys: IdempotencyKeys },
): Promise<Response | undefined> {
  const body = await readJsonBody(context.req.raw);
  if (!body.ok) return problemResponse(body.error);
  context.req.raw = withBody(context.req.raw, body.value);
  if (appliance.state === "stopping") {
    const detail = "parityd is stopping; try again when it has been started again";
    return problemResponse({ kind: "stopping", code: "stopping", detail });
  }
  const stale = await staleMatch(context, appliance);
  if (stale !== null) return stale;
  const key = context.req.header("idempotency-key");
  if (key === undefined || context.req.method !== "POST" || context.get("effects").isDry) {
    await next();
    return undefined;
  }
  const url = new URL(context.req.url);
  const target = url.pathname + url.search;
  const keyed = { key, method: context.req.method, target, body: body.value };
  const answer = await keys.answerOnce(keyed, async () => {
    await next();
    return { response: context.res, isKept: !context.get("effects").isDry };
  });
  if (!context.finalized) return answer;
  // The body of the route's own answer has been read: the copy takes its place.
  context.res = answer;
  return undefined;
}

/** The request again with the body that was read: the validators read it once more, as JSON. */
function withBody(request: Request, body: string): Request {
  const headers = new Headers(request.headers);
  headers.set("content-type", "application/json");
  headers.delete("content-length");
  const { method, signal } = request;
  return new Request(request.url, { method, headers, signal, body });
}

const BAD_ESCAPE = {
  kind: "bad-request",
  code: "bad-escape",
  detail: "the URL holds a % that is no escape of UTF-8: write a percent sign as %25",
} as const;

function canDecode({ pathname, search }: URL): boolean {
  try {
    decodeURIComponent(pathname);
    decodeURIComponent(search);
    return true;
  } catch {
    return false;
  }
}

async function staleMatch(context: ApiContext, appliance: Appliance): Promise<Response | null> {
  const given = context.req.header("if-match");
  const name = arrayOf(new URL(context.req.url).pathname);
  if (given === undefined || name === "") return null;
  const array = await appliance.getArray(name);
  if (!array.ok) return problemResponse(array.error);
  const current = etag(array.value);
  const wanted = given.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  if (wanted.includes("*") || wanted.includes(current)) return null;
  // A bare number is what a person types.
  if (wanted.includes(String(array.value.eventCount))) return null;
  return problemResponse({ kind: "stale", etag: current, given });
}

/** Where each path leads, so that a wrong method is told from a wrong path. */
class RouteIndex {
  private readonly app: ApiApp;
  private patterns: { matches: RegExp; method: string }[] | null = null;

  constructor(app: ApiApp) {
    this.app = app;
  }

  methodsOf(path: string): string[] {
    this.patterns ??= this.app.routes
      .filter((route) => route.method !== "ALL")
      .map((route) => ({ matches: pathPattern(route.path), method: route.method }));
    const methods = new Set<string>();
    for (const { matches, method } of this.patterns) if (matches.test(path)) methods.add(method);
    if (methods.has("GET")) methods.add("HEAD");
    return [...methods].sort();
  }
}

function pathPattern(path: string): RegExp {
  const source = path
    .split("/")
    .map((part) => (part.startsWith(":") ? "[^/]+" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")))
    .join("/");
  return new RegExp(`^${source}$`);
}

function valueIssue(
  target: string,
  issue: { path: PropertyKey[]; message: string; code?: string; keys?: string[] },
): ValueIssue {
  const parts = issue.path.map((part) => String(part));
  // A key too many is named itself, not the object that holds it.
  const unknown = issue.code === "unrecognized_keys" ? issue.keys?.[0] : undefined;
  if (unknown !== undefined) parts.push(unknown);
  const detail = unknown === undefined ? issue.message : "there is no such value here";
  if (target !== "json") return { parameter: parts.join("."), detail };
  const escaped = parts.map((part) =>
    encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1")),
  );
  return { pointer: `#${escaped.map((part) => `/${part}`).join("")}`, detail };
}
