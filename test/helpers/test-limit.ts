/** How long a test may take before it counts as hanging. */
export const TEST_LIMIT_MS = 600_000;
