/**
 * Requests of the engine's own: the edges of zeroings, and what a reshape moves. They are split and
 * answered as those of clients are, and nobody else sees them.
 */
import { assert } from "../base/assert.ts";
import type { RequestOpCode, RequestTable } from "./request-table.ts";

/** The client of all of them. */
export const INNER_CLIENT = 0xffff_ffff;

export interface InnerRequest {
  readonly op: RequestOpCode;
  readonly offset: number;
  readonly bytes: number;
  readonly address: number;
  readonly isFua: boolean;
}

export class InnerRequests {
  private readonly requests: RequestTable;
  private readonly waiting = new Map<number, (status: number) => void>();
  private nextTag = 0;

  constructor(requests: RequestTable) {
    this.requests = requests;
  }

  /** Its status, once it is answered; `start` is what takes it. */
  run(
    { op, offset, bytes, address, isFua }: InnerRequest,
    start: (request: number) => void,
    flags = 0,
  ): Promise<number> {
    const { requests } = this;
    const request = requests.allocate();
    const tag = this.nextTag;
    this.nextTag = (tag + 1) >>> 0;
    requests.op[request] = op;
    requests.offset[request] = offset;
    requests.bytes[request] = bytes;
    requests.address[request] = address;
    requests.isFua[request] = isFua ? 1 : 0;
    requests.flags[request] = flags;
    requests.client[request] = INNER_CLIENT;
    requests.tag[request] = tag;
    return new Promise((resolve) => {
      this.waiting.set(tag, resolve);
      start(request);
    });
  }

  finished(tag: number, status: number): void {
    const resolve = this.waiting.get(tag);
    assert(resolve !== undefined, "an inner request is answered once");
    this.waiting.delete(tag);
    resolve(status);
  }
}
