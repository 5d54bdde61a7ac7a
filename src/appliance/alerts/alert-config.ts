/**
 * The configuration of alerts, a part of the daemon's (config.ts):
 *
 *   onEvent  onEventLeast  onEventTimeoutSeconds       a script
 *   [[webhook]]  url  least  caFile  secretFile  template  headers  timeoutSeconds
 *
 * What is secret stands in a file of its own: whoever may read the configuration, or a log in which
 * it is quoted, learns nothing. No message here repeats a URL: its path may be a secret too.
 */
import { resolve } from "node:path";
import { z } from "zod";
import { SEVERITIES } from "./alert.ts";
import { templateProblem } from "./template.ts";

const WEBHOOKS_MAX = 16;
const HEADERS_MAX = 32;
const TEMPLATE_CHARACTERS_MAX = 16 * 1024;

const least = z.enum(SEVERITIES).default("warning");
const file = z
  .string()
  .min(1)
  .transform((path) => resolve(path));

const url = z.string().superRefine((text, context) => {
  const message = urlProblem(text);
  if (message !== null) context.addIssue({ code: "custom", message });
});

function urlProblem(text: string): string | null {
  if (!URL.canParse(text)) return "it is no URL: https://HOST/PATH";
  const { protocol, username, password } = new URL(text);
  if (protocol !== "https:" && protocol !== "http:") return "it is no http:// or https:// URL";
  if (username === "" && password === "") return null;
  return 'a user in it would be sent in the clear: use headers, Authorization = { file = "..." }';
}

/** A value that may be read by anybody, or the file that it stands in. */
const headerValue = z.union([z.string().max(1_000), z.strictObject({ file })]);
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** What a header's value may hold: printable ASCII, blanks inside. */
export const HEADER_VALUE = /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/;
const SECRET_HEADERS: ReadonlySet<string> = new Set([
  ...["authorization", "proxy-authorization", "cookie"],
]);
/** These are made here, or by the connection. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  ...["host", "content-length", "transfer-encoding", "connection", "x-parityd-signature"],
]);

const headers = z.record(z.string(), headerValue).superRefine((values, context) => {
  const addIssue = (name: string, message: string): void =>
    context.addIssue({ code: "custom", path: [name], message });
  const names = Object.keys(values);
  if (names.length > HEADERS_MAX) addIssue("", `at most ${HEADERS_MAX} headers`);
  for (const [name, value] of Object.entries(values)) {
    const known = name.toLowerCase();
    if (!HEADER_NAME.test(name)) addIssue(name, "it is no name of a header");
    else if (OWN_HEADERS.has(known)) addIssue(name, "this header is not for the configuration");
    else if (names.filter((other) => other.toLowerCase() === known).length > 1) {
      addIssue(name, "it is named twice");
    } else if (typeof value !== "string") continue;
    else if (SECRET_HEADERS.has(known)) addIssue(name, 'it is a secret: write { file = "/path" }');
    else if (!HEADER_VALUE.test(value)) addIssue(name, "its value is printable ASCII");
  }
});

const webhook = z
  .strictObject({
    url,
    least,
    /** Certificates of the authority that the receiver's is of, instead of the well-known ones. */
    caFile: file.optional(),
    /** Its first line is the key of the signature. */
    secretFile: file.optional(),
    template: z.string().max(TEMPLATE_CHARACTERS_MAX).optional(),
    headers: headers.default({}),
    timeoutSeconds: z.int().min(1).max(60).default(10),
  })
  .superRefine((value, context) => {
    if (value.caFile !== undefined && !/^https:/i.test(value.url)) {
      const message = "the url is no https:// one: nobody would be judged by it";
      context.addIssue({ code: "custom", path: ["caFile"], message });
    }
    if (value.template === undefined) return;
    const message = templateProblem(value.template, isJson(value.headers));
    if (message !== null) context.addIssue({ code: "custom", path: ["template"], message });
  });
/** What such a table may hold. */
export const WEBHOOK_KEYS: readonly string[] = Object.keys(webhook.shape);
export type WebhookConfig = z.output<typeof webhook>;

/** Whether values of a template are escaped for JSON. */
export function isJson(given: WebhookConfig["headers"]): boolean {
  const type = Object.entries(given).find(([name]) => name.toLowerCase() === "content-type")?.[1];
  return typeof type === "string" && /^application\/([\w.+-]+\+)?json\b/i.test(type);
}

/** The keys of it, for the schema of the whole. */
export const alertSettings = {
  onEvent: z.string().startsWith("/", "the absolute path of a program").optional(),
  onEventLeast: least,
  onEventTimeoutSeconds: z.int().min(1).max(600).default(30),
  webhook: z.array(webhook).max(WEBHOOKS_MAX).default([]),
} as const;

export interface AlertConfig {
  readonly onEvent?: string | undefined;
  readonly onEventLeast: z.output<typeof least>;
  readonly onEventTimeoutSeconds: number;
  readonly webhook: readonly WebhookConfig[];
}

/** Files of the configuration of alerts: none of them is ever a drive. */
export function alertFiles({ onEvent, webhook: webhooks }: AlertConfig): string[] {
  const secret = webhooks.flatMap((hook) => [
    ...[hook.secretFile, hook.caFile].filter((path) => path !== undefined),
    ...Object.values(hook.headers).flatMap((value) =>
      typeof value === "string" ? [] : [value.file],
    ),
  ]);
  return onEvent === undefined ? secret : [onEvent, ...secret];
}
