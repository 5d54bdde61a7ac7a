/**
 * Waits for what gives no signal of its own: a file, a state of a fake, a number of the kernel's.
 * The limit is there only so that a test that hangs says what it waits for.
 */
import { assert } from "../../src/base/assert.ts";
import { TEST_LIMIT_MS } from "./test-limit.ts";

const LIMIT_MS = TEST_LIMIT_MS / 2;
const LOOK_EVERY_MS = 5;

/** Resolves as soon as `isSo`. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = Date.now() + LIMIT_MS;
  while (!(await isSo())) {
    assert(Date.now() < endMs, `within ${LIMIT_MS / 1000} s: ${what}`);
    await Bun.sleep(LOOK_EVERY_MS);
  }
}
