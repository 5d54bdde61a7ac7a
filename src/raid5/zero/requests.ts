/**
 * The trims and zeroings of an array between the engine's requests and the work on stripes.
 *
 * A bounded number runs at a time, the others wait in order of arrival. The edges of one are
 * written as requests of their own, at most one at a time for each, by a client that only the
 * engine knows.
 */

import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { MemberIo } from "../members/member-io.ts";
import type { MemberSet } from "../members/member-set.ts";
import type { WritePolicy } from "../policy/write-policy.ts";
import type { RequestTable } from "../request-table.ts";
import type { RowPath } from "../rows/careful-rows.ts";
import type { StripeOps } from "../stripe/ops.ts";
import { RangeHold } from "../stripe/range-hold.ts";
import { AllocationMap } from "./allocation.ts";
import { ZeroRows } from "./rows.ts";
import { StripeZero, ZeroFlag } from "./stripes.ts";

export const ZEROES_AT_ONCE = 16;

/** The same numbers as RequestOp. */
const WRITE = 1;
const TRIM = 3;
/** Requests of this client are the writes of zeroings. */
export const INNER_CLIENT = 0xffff_ffff;

export interface ZeroRequestsHost {
  untilRecorded(): Promise<void>;
  /** Queues a hold for the lock of its stripe. */
  hold(op: number, granted: () => void): void;
  release(op: number): void;
  /** Starts a request, whatever the gate. */
  admit(request: number): void;
  partFinished(request: number, status: number): void;
}

export class ZeroRequests {
  readonly allocation: AllocationMap;
  readonly stripes: StripeZero;
  private readonly range: RangeHold;
  private readonly environment: EngineEnvironment;
  private readonly requests: RequestTable;
  private readonly host: ZeroRequestsHost;
  private readonly waiting: number[] = [];
  private readonly writes = new Map<number, (status: number) => void>();
  private nextTag = 0;
  private running = 0;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    memberIo: MemberIo;
    requests: RequestTable;
    ops: StripeOps;
    rows: RowPath;
    policy: WritePolicy;
    host: ZeroRequestsHost;
  }) {
    const { environment, geometry, members, host } = options;
    this.environment = environment;
    this.requests = options.requests;
    this.host = host;
    this.allocation = new AllocationMap(geometry);
    this.range = new RangeHold({
      ops: options.ops,
      enter: (op, granted) => host.hold(op, granted),
      leave: (op) => host.release(op),
    });
    this.stripes = new StripeZero({
      environment,
      geometry,
      members,
      memberIo: options.memberIo,
      allocation: this.allocation,
      range: this.range,
      policy: options.policy,
      rows: new ZeroRows({ rows: options.rows, kernels: environment.kernels, geometry, members }),
      host: {
        untilRecorded: () => host.untilRecorded(),
        write: (place) => this.write(place),
      },
    });
  }

  /** Stripe operations are kept back for a run of stripes: nobody else gets any. */
  get isStarved(): boolean {
    return this.range.isStarved;
  }

  /** Once a turn: stripe operations may have become free. */
  turn(): void {
    this.range.start();
  }

  /** A write is about to be answered. */
  noteData(request: number): void {
    this.allocation.noteData(this.requests.offset[request]!, this.requests.bytes[request]!);
  }

  /** Takes a request that is past the gate. */
  start(request: number): void {
    // It is not split.
    this.requests.splitBytes[request] = this.requests.bytes[request]!;
    if (this.running === ZEROES_AT_ONCE) {
      this.waiting.push(request);
      return;
    }
    this.running += 1;
    inBackground(this.run(request), this.environment.guard);
  }

  /** A write of the inner client is answered. */
  writeFinished(tag: number, status: number): void {
    const resolve = this.writes.get(tag);
    assert(resolve !== undefined, "an inner write is answered once");
    this.writes.delete(tag);
    resolve(status);
  }

  private async run(first: number): Promise<void> {
    for (let request: number | undefined = first; request !== undefined; ) {
      const { op, offset, bytes, flags } = this.requests;
      const status = await this.stripes.run({
        isTrim: op[request] === TRIM,
        offset: offset[request]!,
        bytes: bytes[request]!,
        flags: flags[request]!,
      });
      this.answer(request, status);
      request = this.waiting.shift();
    }
    this.running -= 1;
  }

  /** In a turn: what this finishes is delivered at the end of one. */
  private answer(request: number, status: number): void {
    this.environment.timers.scheduleAfter(0, () => this.host.partFinished(request, status));
  }

  /** Passes no gate: the request that it belongs to keeps that open. */
  private write(place: {
    offset: number;
    bytes: number;
    address: number;
    isFua: boolean;
  }): Promise<number> {
    const { requests } = this;
    const request = requests.allocate();
    const tag = this.nextTag;
    this.nextTag = (tag + 1) >>> 0;
    requests.op[request] = WRITE;
    requests.offset[request] = place.offset;
    requests.bytes[request] = place.bytes;
    requests.address[request] = place.address;
    requests.isFua[request] = place.isFua ? ZeroFlag.fua : 0;
    requests.flags[request] = 0;
    requests.client[request] = INNER_CLIENT;
    requests.tag[request] = tag;
    return new Promise((resolve) => {
      this.writes.set(tag, resolve);
      this.host.admit(request);
    });
  }
}
