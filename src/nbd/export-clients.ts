/** The clients that have an export open: what a change would do to them, and what it does. */
import type { CommandError } from "../array/protocol.ts";
import { counted, wordFor } from "../base/counted.ts";
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
  return clientsOf(sessions, entry).filter(({ caller }) => access.admits(caller)).length;
}

/** Why clients keep an export from being put like this, or null. */
export function clientsAgainst(
  sessions: Iterable<Session>,
  entry: NbdExport | undefined,
  { array, readOnly, allow = null, force = false }: ExportSettings,
): CommandError | null {
  if (entry === undefined || force) return null;
  const clients = clientsOf(sessions, entry);
  // Other data under a client that caches the old ones would be corruption.
  if (entry.array !== array) {
    const have = wordFor(clients.length, "has", "have");
    const what = `${have} another array (${entry.array}) open, and would be disconnected`;
    return inUse(entry, [{ clients, what }]);
  }
  const access = new ExportAccess(allow);
  const isClosing = readOnly && !entry.isReadOnly;
  return inUse(entry, [
    {
      clients: clients.filter(({ caller }) => !access.admits(caller)),
      what: "may not open it any more, and would be disconnected",
    },
    {
      clients: clients.filter(({ caller, mayWrite }) => {
        return isClosing && mayWrite && access.admits(caller);
      }),
      what: "may write, which would be refused from now on",
    },
  ]);
}

/** Why clients keep an export from being withdrawn, or null. */
export function clientsAgainstRemoval(
  sessions: Iterable<Session>,
  entry: NbdExport,
): CommandError | null {
  return inUse(entry, [{ clients: clientsOf(sessions, entry), what: "would be disconnected" }]);
}

function clientsOf(sessions: Iterable<Session>, entry: NbdExport): Session[] {
  return [...sessions].filter((session) => session.hasSocket && session.nbdExport === entry);
}

/** Clients, and what would become of them. */
interface Loss {
  readonly clients: readonly Session[];
  readonly what: string;
}

/** Null where nobody loses anything. */
function inUse({ name }: NbdExport, losses: readonly Loss[]): CommandError | null {
  const met = losses.filter(({ clients }) => clients.length > 0);
  if (met.length === 0) return null;
  const texts = met.map(
    ({ clients, what }) => `${counted(clients.length, "client")} of export ${name} ${what}`,
  );
  const count = met.reduce((sum, { clients }) => sum + clients.length, 0);
  const wayOut = `disconnect ${wordFor(count, "it", "them")}, or say force=true`;
  return { kind: "conflict", code: "export-in-use", detail: `${texts.join("; ")}: ${wayOut}` };
}
