/**
 * The body of a webhook as its receiver wants it: a text with `{{field}}` for what the alert says.
 *
 * In JSON (by the webhook's Content-Type) a value is escaped as inside of a string, so that
 * `"text": "{{message}}"` stays JSON whatever the message holds; null is "".
 */
import type { Alert } from "./alert.ts";

export const TEMPLATE_FIELDS = [
  ...(["id", "kind", "severity", "array", "arrayUuid", "drive", "job"] as const),
  ...(["at", "message", "host", "version"] as const),
] satisfies readonly (keyof Alert)[];

const PLACEHOLDER = /\{\{([^{}]*)\}\}/g;

/** One says everything, with what has to be escaped; the other as little as can be. */
const FULL: Alert = {
  ...{ id: 1, kind: "array.degraded", severity: "critical", array: "tank", arrayUuid: "0:0:0:0" },
  ...{ drive: "drive0", job: 1, at: "2026-01-01T00:00:00.000Z", message: 'a "word"\n\\' },
  ...{ host: "host", version: "1" },
};
const SAMPLES: readonly Alert[] = [FULL, { ...FULL, arrayUuid: null, drive: null, job: null }];

/** What is wrong with a template, in a sentence; null: nothing. */
export function templateProblem(template: string, isJson: boolean): string | null {
  for (const [, name = ""] of template.matchAll(PLACEHOLDER)) {
    if (isField(name.trim())) continue;
    return `there is no {{${name.trim()}}}: one of ${TEMPLATE_FIELDS.join(", ")}`;
  }
  if (template.replaceAll(PLACEHOLDER, "").includes("{{")) return "a {{ without its }}";
  if (!isJson) return null;
  for (const sample of SAMPLES) {
    const why = jsonProblem(renderTemplate(template, sample, true));
    if (why !== null)
      return `with Content-Type JSON it makes no JSON (quote each {{field}}): ${why}`;
  }
  return null;
}

export function renderTemplate(template: string, alert: Alert, isJson: boolean): string {
  return template.replaceAll(PLACEHOLDER, (whole, name: string) => {
    const field = name.trim();
    if (!isField(field)) return whole;
    const text = String(alert[field] ?? "");
    return isJson ? JSON.stringify(text).slice(1, -1) : text;
  });
}

function isField(name: string): name is (typeof TEMPLATE_FIELDS)[number] {
  return (TEMPLATE_FIELDS as readonly string[]).includes(name);
}

function jsonProblem(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
