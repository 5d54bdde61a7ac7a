/**
 * One way to declare a call: its schemas feed the validation and the OpenAPI document, and its
 * handler gets checked values.
 *
 * @example
 * addRoute(app, {
 *   method: "get", path: "/v1/drives/{name}", summary: "One drive", params: nameParams,
 *   answers: { 200: { description: "The drive", schema: driveSchema } },
 * }, async ({ params }) => answer(await appliance.getDrive(params.name)));
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { Effects } from "../appliance/state/effects.ts";
import { type CommandError, NOT_YET } from "../array/protocol.ts";
import type { Result } from "../base/result.ts";
import { problemResponse } from "./problem.ts";
import { dryRunQuery, problemSchema } from "./schemas.ts";

/** Who called: decided by the listener that took the connection. */
export interface ApiEnvironment {
  Variables: {
    /** Of calls that change something. */
    readonly effects: Effects;
  };
  Bindings: {
    readonly transport: "unix" | "tcp";
    /** The address of the caller; over the Unix socket its process and user. */
    readonly peer?: string;
    /** Called once the caller has shown a good token. */
    readonly onKnown?: () => void;
  };
}

export type ApiApp = OpenAPIHono<ApiEnvironment>;
export type ApiContext = Context<ApiEnvironment>;

const none = z.object({});

type ReadingMethod = "get";
type ChangingMethod = "post" | "put" | "patch" | "delete";

export interface RouteSpec<
  Params extends z.ZodType,
  Query extends z.ZodObject,
  Body extends z.ZodType,
> {
  readonly method: ReadingMethod | ChangingMethod;
  readonly path: string;
  readonly summary: string;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly answers: Readonly<
    Record<number, { readonly description: string; readonly schema?: z.ZodType }>
  >;
}

/** Of a call that changes something: `effects` are none in a dry run. */
export interface ChangeInput<Params, Query, Body> extends RouteInput<Params, Query, Body> {
  readonly effects: Effects;
}

export interface RouteInput<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  readonly context: ApiContext;
}

/** A call that only reads. */
export function addRoute<
  Params extends z.ZodObject = typeof none,
  Query extends z.ZodObject = typeof none,
  Body extends z.ZodType = typeof none,
>(
  app: ApiApp,
  spec: RouteSpec<Params, Query, Body> & { readonly method: ReadingMethod },
  handler: (
    input: RouteInput<z.output<Params>, z.output<Query>, z.output<Body>>,
  ) => Response | Promise<Response>,
): void {
  register(app, spec, handler);
}

/**
 * A call that changes something. Each takes `?dryRun=true`, and hands on the effects that it is
 * given (appliance/state/effects.ts); nothing else changes anything.
 */
export function addChange<
  Params extends z.ZodObject = typeof none,
  Query extends z.ZodObject = typeof none,
  Body extends z.ZodType = typeof none,
>(
  app: ApiApp,
  spec: RouteSpec<Params, Query, Body> & { readonly method: ChangingMethod },
  handler: (
    input: ChangeInput<z.output<Params>, z.output<Query>, z.output<Body>>,
  ) => Response | Promise<Response>,
): void {
  const query = z.strictObject({ ...spec.query?.shape, ...dryRunQuery.shape });
  const summary = `${spec.summary}; ?dryRun=true: only says what it would answer`;
  register(app, { ...spec, summary, query }, async (input) => {
    const effects = input.context.get("effects");
    const response = await handler({
      ...(input as typeof input & { query: z.output<Query> }),
      effects,
    });
    return effects.isDry ? foretold(response) : response;
  });
}

/** Said of the answer of a dry run, and of its refusal. */
export const DRY_RUN_HEADER = "Parityd-Dry-Run";

/** What stands for what only the doing gives (array/protocol.ts), by where it stands. */
const NOT_YET_BY_KEY: Readonly<Record<string, unknown>> = {
  ...{ id: NOT_YET.id, uuid: NOT_YET.uuid, arrayUuid: NOT_YET.uuid },
  ...{ startedAt: NOT_YET.time, finishedAt: NOT_YET.time, eventCount: NOT_YET.eventCount },
};

/** What answers of dry runs may lack: also whether an alert arrives, and what a disk says. */
export const NOT_YET_KEYS: ReadonlySet<string> = new Set([
  ...Object.keys(NOT_YET_BY_KEY),
  ...["arrived", "smart"],
]);

/** Without what only the doing would give, and where that would be found. */
async function foretold(response: Response): Promise<Response> {
  const headers = new Headers(response.headers);
  headers.delete("ETag");
  if (headers.get("Location")?.endsWith(`/${NOT_YET.id}`)) headers.delete("Location");
  const text = await response.text();
  if (!response.ok || text === "")
    return new Response(text || null, { status: response.status, headers });
  const known = JSON.parse(text, function (this: unknown, key, value: unknown) {
    return key in NOT_YET_BY_KEY && NOT_YET_BY_KEY[key] === value ? undefined : value;
  });
  return new Response(`${JSON.stringify(known)}\n`, { status: response.status, headers });
}

function register<Params extends z.ZodObject, Query extends z.ZodObject, Body extends z.ZodType>(
  app: ApiApp,
  spec: RouteSpec<Params, Query, Body>,
  handler: (
    input: RouteInput<z.output<Params>, z.output<Query>, z.output<Body>>,
  ) => Response | Promise<Response>,
): void {
  const content = spec.body && { "application/json": { schema: spec.body } };
  const route = createRoute({
    method: spec.method,
    path: spec.path,
    operationId: operationId(spec.method, spec.path),
    summary: spec.summary,
    request: {
      ...(spec.params === undefined ? {} : { params: spec.params }),
      query: spec.query ?? z.strictObject({}),
      ...(content === undefined ? {} : { body: { required: true, content } }),
    },
    responses: documentedAnswers(spec.answers),
  });
  // Answers are plain Response objects, because a problem may take the place of any of them; the
  // library's types ask for one typed answer per status.
  const untyped = async (context: ApiContext): Promise<Response> => {
    const read = (target: string): unknown => context.req.valid(target as never);
    return handler({
      params: (spec.params === undefined ? {} : read("param")) as z.output<Params>,
      query: read("query") as z.output<Query>,
      body: (spec.body === undefined ? {} : read("json")) as z.output<Body>,
      context,
    });
  };
  app.openapi(route, untyped as never);
}

/** "getArraysByName" of GET /v1/arrays/{name}: what a generated client calls it. */
function operationId(method: string, path: string): string {
  const words = path
    .replace(/^\/v1\//, "")
    .split("/")
    .map((part) => part.replace(/^\{(\w+)\}$/, "by-$1"))
    .flatMap((part) => part.split("-"));
  return method + words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join("");
}

function documentedAnswers(answers: RouteSpec<z.ZodType, z.ZodObject, z.ZodType>["answers"]) {
  const responses: Record<string, { description: string; content?: object }> = {};
  for (const [status, { description, schema }] of Object.entries(answers)) {
    const content = schema === undefined ? {} : { content: { "application/json": { schema } } };
    responses[status] = { description, ...content };
  }
  const problem = { "application/problem+json": { schema: problemSchema } };
  const refused = { description: "Refused: what is wrong, and the way out", content: problem };
  responses["4XX"] = refused;
  responses["default"] = refused;
  return responses as Record<string, { description: string }>;
}

interface AnswerOptions {
  readonly status?: number;
  readonly headers?: Record<string, string>;
}

export function json(value: unknown, options: AnswerOptions = {}): Response {
  return jsonOf(jsonText(value), options);
}

/** A value as JSON, with a final newline for terminals. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

/** A text that is JSON already. */
export function jsonOf(text: string, { status = 200, headers = {} }: AnswerOptions = {}): Response {
  return new Response(text, {
    status,
    headers: { "Content-Type": "application/json", ...headers },
  });
}

/** The value of a result as JSON with status 200, or its problem. */
export function answer<T>(result: Result<T, CommandError>): Response {
  return result.ok ? json(result.value) : problemResponse(result.error);
}

/** 204, or the problem. */
export function emptyAnswer(result: Result<unknown, CommandError>): Response {
  return result.ok ? new Response(null, { status: 204 }) : problemResponse(result.error);
}
