/**
 * Buffers for one row of every role, its old content and a result, taken from the engine's pool.
 */
import { ROW_BYTES } from "../base/units.ts";
import type { EngineEnvironment } from "./environment.ts";

const WAIT_MS = 1;

export class RowBuffers {
  /** Roles that could not be read since it was last set to 0. */
  failed = 0;
  private readonly address: number;
  private readonly memberCount: number;

  private constructor(address: number, memberCount: number) {
    this.address = address;
    this.memberCount = memberCount;
  }

  static async take(environment: EngineEnvironment, memberCount: number): Promise<RowBuffers> {
    const bytes = bytesFor(memberCount);
    for (;;) {
      const address = environment.enginePool.allocate(bytes);
      if (address !== 0) return new RowBuffers(address, memberCount);
      await environment.timers.sleep(WAIT_MS);
    }
  }

  give(environment: EngineEnvironment): void {
    environment.enginePool.free(this.address, bytesFor(this.memberCount));
  }

  of(role: number): number {
    return this.address + role * ROW_BYTES;
  }

  get old(): number {
    return this.of(this.memberCount);
  }

  get result(): number {
    return this.of(this.memberCount + 1);
  }
}

function bytesFor(memberCount: number): number {
  return (memberCount + 2) * ROW_BYTES;
}
