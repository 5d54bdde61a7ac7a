/** Ways to break state.db: its steps from version to version, and what is kept of the past. */
import type { Mutation } from "./mutations.ts";

const MIGRATIONS = "src/appliance/state/migrations.ts";
const MIGRATIONS_TEST = "./test/unit/appliance/migrations.test.ts";
const STATE_TEST = "./test/unit/appliance/state.test.ts";

export const STATE_MUTATIONS: readonly Mutation[] = [
  {
    name: "state.db: a migration is no transaction",
    rule: null,
    file: MIGRATIONS,
    find: "  database.transaction(() => {\n",
    replace: "  (() => {\n",
    test: [MIGRATIONS_TEST, "-t", "killed at each"],
  },
  {
    name: "state.db: answers to idempotency keys are lost in an upgrade",
    rule: null,
    file: MIGRATIONS,
    find: '      "INSERT INTO answers SELECT key, answer, at_ms FROM idempotency",\n',
    replace: "",
    test: [MIGRATIONS_TEST, "-t", "all that was in it"],
  },
  {
    name: "state.db: a newer file is opened to be looked at",
    rule: null,
    file: "src/appliance/state/state-file.ts",
    find: "if (version.ok && !this.isOurs(version.value)) {",
    replace: "if (version.ok && version.value < 0) {",
    test: [MIGRATIONS_TEST, "-t", "newer version"],
  },
  {
    name: "state.db: old events go by their ids, which jump",
    rule: null,
    file: "src/appliance/state/state-rows.ts",
    find: 'prune(database, { table: "events", column: "id", kept: KEPT_EVENTS });',
    replace:
      'database.query("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?").run(KEPT_EVENTS);',
    test: [STATE_TEST, "-t", "as many as the limit"],
  },
  {
    name: "state.db: answers to idempotency keys are kept without a limit",
    rule: null,
    file: "src/appliance/state/state-rows.ts",
    find: '      prune(database, { table: "answers", column: "rowid", kept: ANSWERS_MAX });\n',
    replace: "",
    test: [STATE_TEST, "-t", "as many as the limit"],
  },
  {
    name: "state.db: a maximum of 0 still stops work for good",
    rule: null,
    file: "src/appliance/state/state.ts",
    find: "(bytes === 0 ? Number.MAX_SAFE_INTEGER : bytes)",
    replace: "bytes",
    test: [STATE_TEST, "-t", "a maximum of 0"],
  },
];
