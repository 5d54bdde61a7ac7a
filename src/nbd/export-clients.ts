/** The clients that have an export open. */
import { ExportAccess } from "./export-access.ts";
import type { ExportSettings, NbdExport } from "./exports.ts";
import type { Session } from "./session.ts";

/** Disconnects them, or those that are meant. */
export function dropClients(
  sessions: Iterable<Session>,
  entry: NbdExport,
  reason: string,
  isMeant: (session: Session) => boolean = () => true,
): void {
  for (const session of sessions) {
    if (session.nbdExport === entry && isMeant(session)) session.close(reason);
  }
}

/** How many stay where an export is changed to this: of the same array, and let in still. */
export function countStaying(
  sessions: Iterable<Session>,
  entry: NbdExport | undefined,
  { array, allow = null }: ExportSettings,
): number {
  if (entry === undefined || entry.array !== array) return 0;
  const access = new ExportAccess(allow);
  let count = 0;
  for (const session of sessions) {
    const isClient = session.hasSocket && session.nbdExport === entry;
    if (isClient && access.admits(session.caller)) count += 1;
  }
  return count;
}
