/**
 * The one limit of a test, of `bun test` without other words too (bunfig.toml preloads this). It
 * only ends what hangs: a test that is to be fast says so in the benchmarks, since here it may run
 * beside anything, on any machine. For many files in one process Bun 1.4.5 keeps it for the first
 * of them only; test/run.ts gives each its own process.
 */
import { setDefaultTimeout } from "bun:test";
import { TEST_LIMIT_MS } from "./test-limit.ts";

setDefaultTimeout(TEST_LIMIT_MS);
