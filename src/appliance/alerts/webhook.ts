/**
 * A webhook: each alert is one POST.
 *
 *   body       the alert as JSON, or the template with its fields
 *   signature  X-Parityd-Signature: t=UNIX_SECONDS,v1=HEX, where there is a secret: HMAC-SHA256 of
 *              "UNIX_SECONDS.BODY". The time is that of the try, so that an old one is told apart.
 *   answer     its status alone (verdict.ts); the body is not read, redirects are not followed
 *
 * What is secret (path and query of the URL, files) is in no detail.
 */
import { createHash, createHmac } from "node:crypto";
import type { Severity } from "../../array/protocol.ts";
import type { Alarms } from "../state/alarms.ts";
import type { Alert, AlertWay, Delivery } from "./alert.ts";
import { isJson, type WebhookConfig } from "./alert-config.ts";
import type { CaFile } from "./ca-file.ts";
import type { SecretFile } from "./secret-file.ts";
import { renderTemplate } from "./template.ts";
import { judgeStatus, retryAfterMs } from "./verdict.ts";

export interface PostRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Certificates in PEM by which the server's is judged; null: those of the runtime. */
  readonly ca: string | null;
  /** Gives the request up. */
  readonly signal: AbortSignal;
}

export type PostAnswer =
  | { readonly kind: "answered"; readonly status: number; readonly retryAfter: string | null }
  | { readonly kind: "unreachable"; readonly why: string };

/** Sends one request and reads its status. Never rejects. */
export type Post = (request: PostRequest) => Promise<PostAnswer>;

export interface WebhookParts {
  readonly config: WebhookConfig;
  /** From 1, in the order of the configuration. */
  readonly number: number;
  readonly key: string;
  readonly signatureKey: SecretFile | null;
  readonly caFile: CaFile | null;
  /** By name; a header that is no secret stands there as it is. */
  readonly headers: Readonly<Record<string, string | SecretFile>>;
  readonly version: string;
  readonly post: Post;
  readonly alarms: Alarms;
}

export class Webhook implements AlertWay {
  readonly via: string;
  readonly target: string;
  readonly key: string;
  readonly least: Severity;
  private readonly parts: WebhookParts;
  private readonly underWay = new Set<(delivery: Delivery) => void>();

  constructor(parts: WebhookParts) {
    this.parts = parts;
    this.via = `webhook${parts.number}`;
    this.target = new URL(parts.config.url).origin;
    this.key = parts.key;
    this.least = parts.config.least;
  }

  async deliver(alert: Alert): Promise<Delivery> {
    const { config, post, alarms } = this.parts;
    const leaving = new AbortController();
    const { timeoutSeconds, url } = config;
    let end: (delivery: Delivery) => void = () => {};
    const ended = new Promise<Delivery>((resolve) => {
      end = resolve;
    });
    this.underWay.add(end);
    const stopTimer = alarms.after(timeoutSeconds * 1_000, () =>
      end(failed(`no answer within ${timeoutSeconds} s`)),
    );
    const body = this.bodyOf(alert);
    const ca = this.parts.caFile?.certificates ?? null;
    const request = { url, headers: this.headersOf(body), body, ca, signal: leaving.signal };
    const answered = post(request).then((answer) => this.judge(answer));
    const delivery = await Promise.race([answered, ended]);
    stopTimer();
    this.underWay.delete(end);
    leaving.abort();
    return delivery;
  }

  abort(): void {
    for (const end of this.underWay) end(failed("parityd stops"));
  }

  private judge(answer: PostAnswer): Delivery {
    if (answer.kind === "unreachable") return failed(answer.why);
    const { status, retryAfter } = answer;
    const isElsewhere = status >= 300 && status < 400;
    const detail = `status ${status}${isElsewhere ? " (a redirect is not followed)" : ""}`;
    const kind = judgeStatus(status);
    if (kind !== "failed") return { kind, detail };
    return { kind, detail, retryAfterMs: retryAfterMs(retryAfter, this.parts.alarms.wallMs()) };
  }

  private bodyOf(alert: Alert): string {
    const { template, headers } = this.parts.config;
    if (template === undefined) return JSON.stringify(alert);
    return renderTemplate(template, alert, isJson(headers));
  }

  private headersOf(body: string): Record<string, string> {
    const { config, headers, signatureKey, version, alarms } = this.parts;
    const isText = config.template !== undefined;
    const sent = new Headers({
      "Content-Type": isText ? "text/plain; charset=utf-8" : "application/json",
      "User-Agent": `parityd/${version}`,
    });
    for (const [name, value] of Object.entries(headers)) {
      sent.set(name, typeof value === "string" ? value : value.value);
    }
    if (signatureKey !== null) {
      const seconds = Math.floor(alarms.wallMs() / 1_000);
      sent.set("X-Parityd-Signature", signatureOf({ secret: signatureKey.value, seconds, body }));
    }
    return Object.fromEntries(sent);
  }
}

export function signatureOf(what: { secret: string; seconds: number; body: string }): string {
  const { secret, seconds, body } = what;
  const mac = createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex");
  return `t=${seconds},v1=${mac}`;
}

/** By its URL, so that rows find it when others are configured before it; `nth` of that URL. */
export function webhookKey(url: string, nth: number): string {
  const hash = createHash("sha256").update(url).digest("hex").slice(0, 16);
  return `webhook-${hash}-${nth}`;
}

function failed(detail: string): Delivery {
  return { kind: "failed", detail, retryAfterMs: null };
}
