/** Ways to break dry runs: they do something, or answer something else. */
import type { Mutation } from "./mutations.ts";

const API = "./test/unit/api/dry-run.test.ts";
const CLI = "./test/unit/cli/dry-run.test.ts";

export const DRY_RUN_MUTATIONS: readonly Mutation[] = [
  {
    name: "dry run: it is recorded",
    rule: null,
    file: "src/appliance/state/effects.ts",
    find: "    if (this.isDry) return Promise.resolve(this.store.foretell(...changes));\n",
    replace: "",
    test: [API, "-t", "DELETE /v1/exports"],
  },
  {
    name: "dry run: the reactor carries it out",
    rule: null,
    file: "src/appliance/state/effects.ts",
    find: "this.isDry ? { ...command, dryRun: true } : command",
    replace: "command",
    test: [API, "-t", "scrub/pause"],
  },
  {
    name: "dry run: it is in the trail of calls",
    rule: null,
    file: "src/api/app.ts",
    find: "    else callEvents.called(",
    replace: "    callEvents.called(",
    test: [API, "-t", "PUT /v1/log"],
  },
  {
    name: "dry run: its answer is kept under the key",
    rule: null,
    file: "src/api/app.ts",
    find: ' || context.get("effects").isDry) {',
    replace: ") {",
    test: [API, "-t", "Idempotency-Key"],
  },
  {
    name: "dry run: files get their space",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: "    if (isDry) return ok([]);\n",
    replace: "",
    test: [API, "-t", "of files"],
  },
  {
    name: "dry run: of a scrub: what is in the way is not asked",
    rule: null,
    file: "src/array/commands/dry-runs.ts",
    find: "const obstacle = scrubObstacle(running);",
    replace: "const obstacle = scrubObstacle(running) && null;",
    test: [API, "-t", "scrub: degraded"],
  },
  {
    name: "dry run: of a start: the log is replayed onto the members",
    rule: null,
    file: "src/array/start/start.ts",
    find: "options.readOnly || options.isDry === true",
    replace: "options.readOnly",
    test: [API, "-t", "killed, with a log"],
  },
  {
    name: "dry run: of a create: it would be clean",
    rule: null,
    file: "src/array/commands/foretold.ts",
    find: 'state: isClean ? "clean" : "active",',
    replace: 'state: "clean",',
    test: [API, "-t", "POST /v1/arrays: new"],
  },
  {
    name: "dry run: of an import: what drives would bring is refused",
    rule: null,
    file: "src/appliance/configuration.ts",
    find: "  added.add(drive.name);\n",
    replace: "  if (added.size >= 0) return result;\n",
    test: [API, "-t", "all that was forgotten"],
  },
  {
    name: "dry run: a verb does it",
    rule: null,
    file: "src/cli/dry-run.ts",
    find: "this.real.send(socketPath, { ...request, path })",
    replace: "this.real.send(socketPath, request)",
    test: [CLI, "-t", "array stop raid_test: says"],
  },
  {
    name: "export: read-only under clients that may write",
    rule: null,
    file: "src/nbd/exports.ts",
    find: "if (entry.isReadOnly || !readOnly) return null;",
    replace: "return null;",
    test: [API, "-t", "read-only, with a client"],
  },
  {
    name: "export: forced to another array: its clients stay",
    rule: null,
    file: "src/nbd/server.ts",
    find: "before !== undefined && before.array !== settings.array",
    replace: 'before !== undefined && before.array === ""',
    test: [API, "-t", "another array, forced"],
  },
];
