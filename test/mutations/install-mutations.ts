/** Mutations of the installation: what is overwritten, removed, found and told to a shell. */
import type { Mutation } from "./mutations.ts";

const INSTALLATION = ["./test/unit/install/installation.test.ts"] as const;
const CONFIG = ["./test/unit/cli/config.test.ts"] as const;
const RULES = "src/install/files/alert-rules.yaml";
const RULES_TEST = ["./test/unit/install/alert-rules.test.ts"] as const;
const COMPLETE = ["./test/unit/cli/complete.test.ts"] as const;

export const INSTALL_MUTATIONS: readonly Mutation[] = [
  {
    name: "an installation overwrites what is somebody's",
    rule: null,
    file: "src/install/installation.ts",
    find: "if (record.files[file.path]?.includes(found) === true) return",
    replace: "if (found !== file.path) return",
    test: INSTALLATION,
  },
  {
    name: "a removal takes the configuration",
    rule: null,
    file: "src/install/installation.ts",
    find: "if (isConfiguration && !isPurge) kept[path] = sums;",
    replace: "if (isConfiguration && path === sums[0] && !isPurge) kept[path] = sums;",
    test: INSTALLATION,
  },
  {
    name: "a removal takes what was changed",
    rule: null,
    file: "src/install/installation.ts",
    find: "if (!isWhateverItIs && !sums.includes(found))",
    replace: "if (!isWhateverItIs && sums.length === 0)",
    test: INSTALLATION,
  },
  {
    name: "a removal takes folders that were there",
    rule: null,
    file: "src/install/installation.ts",
    find: "if (!existsSync(place.root + folder)) missing.add(folder);",
    replace: "missing.add(folder);",
    test: INSTALLATION,
  },
  {
    name: "an installation that is cut short cannot be repeated",
    rule: null,
    file: "src/install/installation.ts",
    find: "writeRecord(place, { files: { ...old, ...Object.fromEntries(both) }, folders, configuration });",
    replace: "void both;",
    test: INSTALLATION,
  },
  {
    name: "udev is told of arrays that were deleted",
    rule: null,
    file: "src/appliance/state/kept-array.ts",
    find: 'standing !== "deleted" && ',
    replace: "standing !== null && ",
    test: CONFIG,
  },
  {
    name: "the environment wins over --run-dir",
    rule: null,
    file: "src/cli/run-dir.ts",
    find: "flag ?? environment[RUN_DIR_VARIABLE]",
    replace: "environment[RUN_DIR_VARIABLE] ?? flag",
    test: CONFIG,
  },
  {
    name: "config check does not look at the certificates",
    rule: null,
    file: "src/cli/verbs/config.ts",
    find: "if (files.ok) continue;",
    replace: "if (files.ok || path !== null) continue;",
    test: CONFIG,
  },
  {
    name: "what is a value of a flag is completed as an operand",
    rule: null,
    file: "src/cli/complete.ts",
    find: "if (takesNext && value === undefined) open",
    replace: "if (takesNext && value === name) open",
    test: COMPLETE,
  },
  {
    name: "alert rules: the first error of a kind is told of by the second",
    rule: null,
    file: RULES,
    find: "              or (parityd_member_errors_total unless parityd_member_errors_total offset 1h)\n",
    replace: "",
    test: RULES_TEST,
  },
  {
    name: "alert rules: the spare of another host counts",
    rule: null,
    file: RULES,
    find: "parityd_array_degraded > 0 and on (instance, array)",
    replace: "parityd_array_degraded > 0 and on (array)",
    test: RULES_TEST,
  },
  {
    name: "alert rules: a host that answers no more is not missed while another does",
    rule: null,
    file: RULES,
    find: "unless on (instance) parityd_build_info",
    replace: "unless on () parityd_build_info",
    test: RULES_TEST,
  },
  {
    name: "alert rules: a scrub is overdue on the first day",
    rule: null,
    file: RULES,
    find: "        for: 2d\n",
    replace: "        for: 1d\n",
    test: RULES_TEST,
  },
  {
    name: "dashboard: the first error of a kind is not shown",
    rule: null,
    file: "src/install/dashboard.ts",
    find: "offset 1h)",
    replace: "offset 0s)",
    test: ["./test/e2e/prometheus.test.ts"],
  },
  {
    name: "metrics: errors of members lose their operation",
    rule: null,
    file: "src/api/metrics.ts",
    find: "[{ op: snakeCase(op), kind }, value]",
    replace: "[{ kind }, value]",
    test: ["./test/unit/api/metrics.test.ts"],
  },
  {
    name: "a second copy is installed where it runs in place of the package",
    rule: null,
    file: "src/install/install-files.ts",
    find: 'if (place.prefix !== "/usr" && isForced) return null;',
    replace: 'if (place.prefix !== "/usr") return null;',
    test: INSTALLATION,
  },
];
