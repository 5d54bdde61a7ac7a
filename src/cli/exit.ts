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

/** The same in words, for the manual. */
export const EXIT_MEANINGS: readonly { readonly of: string; readonly meaning: string }[] = [
  { of: `${Exit.ok}`, meaning: "Done." },
  { of: `${Exit.failed}`, meaning: "Refused or failed; the reason is on stderr, in one line." },
  { of: `${Exit.usage}`, meaning: "The command line is none." },
  {
    of: `${Exit.unavailable}`,
    meaning:
      "No daemon answers, or not in time. At its start: a directory or an address is in use, or " +
      "there is no AIO, no memory or no executable memory.",
  },
  { of: `${Exit.internal}`, meaning: "A defect." },
  { of: `${Exit.configuration}`, meaning: "The configuration cannot be used." },
  {
    of: "status --check",
    meaning:
      `${CheckExit.fine} fine, ${CheckExit.degraded} degraded or a drive is missing, ` +
      `${CheckExit.unusable} unusable, ${CheckExit.cannotTell} cannot be told.`,
  },
  {
    of: "scrub start --wait",
    meaning:
      `${ScrubExit.clean} nothing found, ${ScrubExit.found} mismatches or losses, ` +
      `${ScrubExit.notDone} not done to the end.`,
  },
  {
    of: "--wait, job wait",
    meaning:
      `${Exit.failed} also where --timeout is over before the job, which goes on (of a scrub and ` +
      `of drill --on ${ScrubExit.notDone}); 130 at Ctrl-C (128 and the signal), the job goes on.`,
  },
  {
    of: "drill --on",
    meaning:
      `${RehearsalExit.passed} nothing would have been lost, ${RehearsalExit.failed} something ` +
      `would, ${RehearsalExit.notDone} not done to the end.`,
  },
];
