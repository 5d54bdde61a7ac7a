/** How long a test may take before it counts as hanging. A mutant's has less (mutations/). */
export const TEST_LIMIT_MS = Number(process.env["PARITYD_TEST_LIMIT_MS"] ?? 600_000);
