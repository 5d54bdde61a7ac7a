/**
 * The one shared memory of a test process, which all test files share: engines give fast bounds
 * checks to only a few memories, and never return a memory's address space.
 *
 * A test that needs known contents writes them first: earlier tests leave their bytes behind.
 */
import { createMemory, SharedMemory } from "../../src/base/memory.ts";
import { MIB } from "../../src/base/units.ts";

export const TEST_POOL_BYTES = 64 * MIB;

let shared: SharedMemory | undefined;

export function testMemory(): SharedMemory {
  shared ??= new SharedMemory(createMemory(TEST_POOL_BYTES));
  return shared;
}
