/**
 * Idempotency-Key: the same POST sent twice is carried out once, and answered twice.
 *
 * Only answers of success are kept (24 h): a refused request changed nothing, so that its
 * repetition is judged anew. The answer is on its way to state.db before the client sees it.
 */
import { createHash } from "node:crypto";
import type { StoredAnswer } from "../appliance/state/state.ts";
import type { StateStore } from "../appliance/state/state-store.ts";
import { problemResponse } from "./problem.ts";

export interface KeyedRequest {
  readonly key: string;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly body: string;
}

export class IdempotencyKeys {
  private readonly store: StateStore;
  private readonly underWay = new Set<string>();

  constructor(store: StateStore) {
    this.store = store;
  }

  async answerOnce(
    request: KeyedRequest,
    carryOut: () => Promise<{ readonly response: Response; readonly isKept: boolean }>,
  ): Promise<Response> {
    const { key } = request;
    if (this.underWay.has(key)) return problemResponse({ kind: "key-in-use" });
    const fingerprint = fingerprintOf(request);
    const known = this.store.state.answers.get(key)?.answer;
    if (known !== undefined) {
      if (known.fingerprint !== fingerprint) return problemResponse({ kind: "key-reused" });
      return storedResponse(known);
    }
    this.underWay.add(key);
    try {
      const { response, isKept } = await carryOut();
      if (!response.ok || !isKept) return response;
      const answer: StoredAnswer = {
        fingerprint,
        status: response.status,
        location: response.headers.get("location"),
        contentType: response.headers.get("content-type"),
        body: await response.text(),
      };
      this.store.note({ kind: "put-answer", key, answer, atMs: Date.now() });
      return storedResponse(answer);
    } finally {
      this.underWay.delete(key);
    }
  }
}

function fingerprintOf({ method, target, body }: KeyedRequest): string {
  return createHash("sha256").update(`${method} ${target}\n${body}`).digest("hex");
}

function storedResponse(answer: StoredAnswer): Response {
  const headers = new Headers();
  if (answer.location !== null) headers.set("Location", answer.location);
  if (answer.contentType !== null) headers.set("Content-Type", answer.contentType);
  const body = answer.status === 204 ? null : answer.body;
  return new Response(body, { status: answer.status, headers });
}
