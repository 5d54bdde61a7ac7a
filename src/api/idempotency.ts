/**
 * Idempotency-Key: the same POST sent twice is carried out once, and answered twice.
 *
 * Only answers of success are kept (24 h): a refused request changed nothing, so that its
 * repetition is judged anew. Order: the answer is in state.db before the client sees it.
 */
import { createHash } from "node:crypto";
import type { StateDb, StoredAnswer } from "../appliance/state-db.ts";
import { problemResponse } from "./problem.ts";

export interface KeyedRequest {
  readonly key: string;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly body: string;
}

export class IdempotencyKeys {
  private readonly db: StateDb;
  private readonly underWay = new Set<string>();

  constructor(db: StateDb) {
    this.db = db;
  }

  async answerOnce(request: KeyedRequest, carryOut: () => Promise<Response>): Promise<Response> {
    const { key } = request;
    if (this.underWay.has(key)) return problemResponse({ kind: "key-in-use" });
    const fingerprint = fingerprintOf(request);
    const known = this.db.getAnswer(key);
    if (known !== null) {
      if (known.fingerprint !== fingerprint) return problemResponse({ kind: "key-reused" });
      return storedResponse(known);
    }
    this.underWay.add(key);
    try {
      const response = await carryOut();
      if (!response.ok) return response;
      const answer: StoredAnswer = {
        fingerprint,
        status: response.status,
        location: response.headers.get("location"),
        contentType: response.headers.get("content-type"),
        body: await response.text(),
      };
      this.db.putAnswer({ key, answer, nowMs: Date.now() });
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
