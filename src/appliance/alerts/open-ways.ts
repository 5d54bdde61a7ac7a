/**
 * The ways that a configuration asks for, with their secrets read; and those read again. A secret
 * that cannot be used is an error at the start: alerts that nobody takes are no alerts.
 */
import { join } from "node:path";
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Alarms } from "../state/alarms.ts";
import { VERSION } from "../version.ts";
import type { AlertWay } from "./alert.ts";
import type { AlertConfig, WebhookConfig } from "./alert-config.ts";
import { CaFile } from "./ca-file.ts";
import { httpPost } from "./http-post.ts";
import { programProblem, scriptRunner } from "./linux-script.ts";
import { ScriptRecord } from "./linux-script-record.ts";
import { Script } from "./script.ts";
import { SecretFile } from "./secret-file.ts";
import { Webhook, type WebhookParts, webhookKey } from "./webhook.ts";

export interface OpenWays {
  readonly ways: readonly AlertWay[];
  /** Reads all secrets and certificates again; the answer is how many files there are. */
  readAgain(): Result<number, string>;
  /** Ends a program that a former daemon left. Called once the run directory is locked. */
  endLeft(): void;
}

interface ReadFile {
  readAgain(): Result<undefined, string>;
}

export function openWays(
  config: AlertConfig & { readonly runDir: string },
  { alarms, log }: { alarms: Alarms; log: Log },
): Result<OpenWays, string> {
  const ways: AlertWay[] = [];
  const files: ReadFile[] = [];
  const record = new ScriptRecord(join(config.runDir, "on-event.pid"));
  if (config.onEvent !== undefined) {
    const { onEvent: path, onEventLeast: least, onEventTimeoutSeconds: timeoutSeconds } = config;
    // It may be there, and good, by the time that it is run.
    const why = programProblem(path);
    if (why !== null) log.write("warn", "the program of onEvent cannot be run now", { path, why });
    const language = process.env["LANG"] ?? "C.UTF-8";
    const run = scriptRunner(record);
    ways.push(new Script({ path, least, timeoutSeconds, language, run, alarms }));
  }
  const kept = <T extends ReadFile>(opened: Result<T, string>): Result<T, string> => {
    if (opened.ok) files.push(opened.value);
    return opened;
  };
  const open: Opener = {
    secret: (path) => kept(SecretFile.open(path, log)),
    ca: (path) => kept(CaFile.open(path)),
  };
  const counts = new Map<string, number>();
  for (const [index, hook] of config.webhook.entries()) {
    const nth = (counts.get(hook.url) ?? 0) + 1;
    counts.set(hook.url, nth);
    const opened = openHook(hook, open);
    if (!opened.ok) return err(`webhook ${index + 1}: ${opened.error}`);
    const identity = { number: index + 1, key: webhookKey(hook.url, nth), version: VERSION };
    ways.push(new Webhook({ config: hook, ...identity, ...opened.value, post: httpPost, alarms }));
  }
  const endLeft = (): void => {
    const pid = record.endLeft();
    if (pid !== null) log.write("warn", "the program of onEvent that was left is ended", { pid });
  };
  return ok({ ways, readAgain: () => readAll(files), endLeft });
}

interface Opener {
  secret(path: string): Result<SecretFile, string>;
  ca(path: string): Result<CaFile, string>;
}

type HookFiles = Pick<WebhookParts, "signatureKey" | "caFile" | "headers">;

function openHook(
  { secretFile, caFile, headers }: WebhookConfig,
  open: Opener,
): Result<HookFiles, string> {
  const key = secretFile === undefined ? ok(null) : open.secret(secretFile);
  if (!key.ok) return key;
  const ca = caFile === undefined ? ok(null) : open.ca(caFile);
  if (!ca.ok) return ca;
  const values: Record<string, string | SecretFile> = {};
  for (const [name, value] of Object.entries(headers)) {
    const opened = typeof value === "string" ? ok(value) : open.secret(value.file);
    if (!opened.ok) return opened;
    values[name] = opened.value;
  }
  return ok({ signatureKey: key.value, caFile: ca.value, headers: values });
}

function readAll(files: readonly ReadFile[]): Result<number, string> {
  const problems = files.flatMap((file) => {
    const read = file.readAgain();
    return read.ok ? [] : [read.error];
  });
  return problems.length === 0 ? ok(files.length) : err(problems.join("; "));
}
