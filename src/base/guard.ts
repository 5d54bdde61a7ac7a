/**
 * What stands between shared code and code that works for one array: a throw is caught at the door
 * and stops that array, not the process. The doors are listed in array/array-guard.ts.
 */
export interface Guard {
  /** Nothing behind this door runs any more. */
  readonly isBroken: boolean;
  /**
   * Takes what was thrown behind the door. Throws it on where it is about something shared, and
   * then nobody may go on.
   */
  caught(error: unknown): void;
}
