/**
 * The ways that a configuration asks for, with their secrets read; and those read again. A secret
 * that cannot be used is an error at the start: alerts that nobody takes are no alerts.
 */
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Alarms } from "../state/alarms.ts";
import { VERSION } from "../version.ts";
import type { AlertWay } from "./alert.ts";
import type { AlertConfig, WebhookConfig } from "./alert-config.ts";
import { httpPost } from "./http-post.ts";
import { programProblem, runScript } from "./linux-script.ts";
import { Script } from "./script.ts";
import { SecretFile } from "./secret-file.ts";
import { Webhook, webhookKey } from "./webhook.ts";

export interface OpenWays {
  readonly ways: readonly AlertWay[];
  /** Reads all secrets again; the answer is how many there are. */
  readAgain(): Result<number, string>;
}

export function openWays(
  config: AlertConfig,
  { alarms, log }: { alarms: Alarms; log: Log },
): Result<OpenWays, string> {
  const ways: AlertWay[] = [];
  const secrets: SecretFile[] = [];
  if (config.onEvent !== undefined) {
    const { onEvent: path, onEventLeast: least, onEventTimeoutSeconds: timeoutSeconds } = config;
    // It may be there, and good, by the time that it is run.
    const why = programProblem(path);
    if (why !== null) log.write("warn", "the program of onEvent cannot be run now", { path, why });
    const language = process.env["LANG"] ?? "C.UTF-8";
    ways.push(new Script({ path, least, timeoutSeconds, language, run: runScript, alarms }));
  }
  const openSecret = (path: string): Result<SecretFile, string> => {
    const opened = SecretFile.open(path, log);
    if (opened.ok) secrets.push(opened.value);
    return opened;
  };
  const counts = new Map<string, number>();
  for (const [index, hook] of config.webhook.entries()) {
    const nth = (counts.get(hook.url) ?? 0) + 1;
    counts.set(hook.url, nth);
    const opened = openHook(hook, openSecret);
    if (!opened.ok) return err(`webhook ${index + 1}: ${opened.error}`);
    const identity = { number: index + 1, key: webhookKey(hook.url, nth), version: VERSION };
    ways.push(new Webhook({ config: hook, ...identity, ...opened.value, post: httpPost, alarms }));
  }
  return ok({ ways, readAgain: () => readAll(secrets) });
}

function openHook(
  { secretFile, headers }: WebhookConfig,
  openSecret: (path: string) => Result<SecretFile, string>,
): Result<
  { signatureKey: SecretFile | null; headers: Record<string, string | SecretFile> },
  string
> {
  const key = secretFile === undefined ? ok(null) : openSecret(secretFile);
  if (!key.ok) return key;
  const values: Record<string, string | SecretFile> = {};
  for (const [name, value] of Object.entries(headers)) {
    const opened = typeof value === "string" ? ok(value) : openSecret(value.file);
    if (!opened.ok) return opened;
    values[name] = opened.value;
  }
  return ok({ signatureKey: key.value, headers: values });
}

function readAll(secrets: readonly SecretFile[]): Result<number, string> {
  const problems = secrets.flatMap((secret) => {
    const read = secret.readAgain();
    return read.ok ? [] : [read.error];
  });
  return problems.length === 0 ? ok(secrets.length) : err(problems.join("; "));
}
