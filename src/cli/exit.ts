/** Exit codes: those of sysexits.h where it has one. */
export const Exit = {
  ok: 0,
  failed: 1,
  usage: 64,
  /** The daemon cannot be reached; at start: socket in use, no AIO, no memory. */
  unavailable: 69,
  internal: 70,
  configuration: 78,
} as const;

/** `status --check`, after `mdadm --detail --test`. */
export const CheckExit = { fine: 0, degraded: 1, unusable: 2, cannotTell: 4 } as const;

/** `scrub ... --wait`: nothing found; mismatches or losses found; not done to the end. */
export const ScrubExit = { clean: 0, found: 1, notDone: 2 } as const;

/** `drill --on`: the real loss would have gone well; it would not have; not done to the end. */
export const RehearsalExit = { passed: 0, failed: 1, notDone: 2 } as const;
