/**
 * Whether this host keeps an array, asked of state.db by another process than the daemon: udev's,
 * when a member appears. Read only, and beside a daemon that writes: WAL lets both.
 */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { parseUuid } from "./labels.ts";

/** Its label; null where it is unknown, was deleted, or nothing can be read. */
export function keptArrayLabel(stateDb: string, uuidText: string): string | null {
  const uuid = parseUuid(uuidText);
  if (uuid === null || !existsSync(stateDb)) return null;
  try {
    using database = new Database(stateDb, { readonly: true });
    const query = database.query<{ facts: string }, [string]>(
      "SELECT facts FROM arrays WHERE uuid = ?",
    );
    const facts: unknown = JSON.parse(query.get(uuid)?.facts ?? "null");
    if (typeof facts !== "object" || facts === null) return null;
    const { standing, label } = facts as { standing?: unknown; label?: unknown };
    return standing !== "deleted" && typeof label === "string" ? label : null;
  } catch {
    return null; // Whoever asked goes on as if there were no parityd.
  }
}
