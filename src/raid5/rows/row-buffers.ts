/**
 * Buffers for one row of every role, its old content and a result, taken from the engine's pool.
 *
 * A buffer whose request was given up may still be used by the drive: it is renewed at once, and
 * the old one goes back only with the rest, where the pins hold it (write-rules 10).
 */
import { assert } from "../../base/assert.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { MemberParts } from "../members/member-parts.ts";

const SLOTS_BESIDE_ROLES = 3;

type BuffersParts = Pick<MemberParts, "environment" | "geometry">;

export class RowBuffers {
  /** Roles that could not be read since it was last set to 0. */
  failed = 0;
  /** Roles that had no room for a row. */
  refused = 0;
  /** Roles of which a row is parked (parked-rows.ts). */
  parked = 0;
  /** Slots: one for each role, then the old content, a result, and the partial parity. */
  readonly oldSlot: number;
  readonly resultSlot: number;
  private readonly partialSlot: number;
  private readonly environment: EngineEnvironment;
  private readonly runs: { readonly address: number; readonly bytes: number }[] = [];
  private readonly addresses: number[] = [];
  private isGiven = false;

  private constructor(environment: EngineEnvironment, memberCount: number) {
    this.environment = environment;
    this.oldSlot = memberCount;
    this.resultSlot = memberCount + 1;
    this.partialSlot = memberCount + 2;
  }

  static async take({ environment, geometry }: BuffersParts): Promise<RowBuffers> {
    const { memberCount } = geometry;
    const buffers = new RowBuffers(environment, memberCount);
    const run = await buffers.allocate((memberCount + SLOTS_BESIDE_ROLES) * ROW_BYTES);
    for (let slot = 0; slot < memberCount + SLOTS_BESIDE_ROLES; slot += 1) {
      buffers.addresses.push(run + slot * ROW_BYTES);
    }
    return buffers;
  }

  give(): void {
    assert(!this.isGiven, "buffers are given back once");
    this.isGiven = true;
    for (const { address, bytes } of this.runs) this.environment.enginePool.free(address, bytes);
  }

  /** The address of a slot; that of a role is its number. */
  of(slot: number): number {
    const address = this.addresses[slot];
    assert(address !== undefined && !this.isGiven, "a slot is used while it is there");
    return address;
  }

  get old(): number {
    return this.of(this.oldSlot);
  }

  get result(): number {
    return this.of(this.resultSlot);
  }

  get partialParity(): number {
    return this.of(this.partialSlot);
  }

  async renew(slot: number): Promise<void> {
    this.addresses[slot] = await this.allocate(SLAB_BYTES);
  }

  private async allocate(bytes: number): Promise<number> {
    const address = await this.environment.enginePool.take(bytes);
    this.runs.push({ address, bytes });
    return address;
  }
}
