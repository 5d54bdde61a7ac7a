/** Mutations of how a defect is kept to one array, one session, one worker. */
import type { Mutation } from "./mutations.ts";

const BROKEN = "./test/sim/array/broken-arrays.test.ts";

function named(file: string, name: string): readonly string[] {
  return [file, "-t", name];
}

export const DEFECT_MUTATIONS: readonly Mutation[] = [
  {
    name: "a processor that computes parity wrong is used",
    rule: null,
    file: "src/reactor-main.ts",
    find: "  testKernels(context);\n",
    replace: "",
    test: named("./test/unit/reactor/reactor-loop.test.ts", "computes parity wrong"),
  },
  // A defect in one array, in one session, in a worker.
  {
    name: "a throw in the answer of a drive ends the process",
    rule: null,
    file: "src/block/outcome-router.ts",
    find: "        guard.caught(error);",
    replace: "        throw error;",
    test: named(BROKEN, "behind each door"),
  },
  {
    name: "the drives of a broken array take more",
    rule: null,
    file: "src/array/broken-arrays.ts",
    find: "    for (const drive of drives) drive.seal();\n",
    replace: "    for (const drive of drives) drive.device.cancelQueuedWrites(EIO);\n",
    test: named(BROKEN, "behind each door"),
  },
  {
    name: "a broken array answers nobody",
    rule: null,
    file: "src/array/broken-arrays.ts",
    find: "      array.front.answerAll(EIO);",
    replace: "",
    test: named(BROKEN, "behind each door"),
  },
  {
    name: "a broken array keeps its part of the pool",
    rule: null,
    file: "src/array/broken-arrays.ts",
    find: "      keptBytes = array.core.guard.reclaim();",
    replace: "",
    test: named(BROKEN, "behind each door"),
  },
  {
    name: "commands of a broken array are not answered",
    rule: null,
    file: "src/array/broken-arrays.ts",
    find: "    this.listener?.broken(record);",
    replace: "",
    test: named(BROKEN, "behind each door"),
  },
  {
    name: "the buffers of what a broken array has under way are used again",
    rule: 10,
    file: "src/block/retry-filter.ts",
    find: "      this.state[request] = State.sealed;\n      this.pins?.pin(",
    replace:
      "      this.state[request] = State.sealed;\n      void ((_address: number, _bytes: number) => {})(",
    test: ["./test/unit/block/retry-filter.test.ts"],
  },
  {
    name: "a defect in one NBD session ends the process",
    rule: null,
    file: "src/nbd/session-door.ts",
    find: "    if (error instanceof SharedAssertionError) throw error;",
    replace: "    throw error;",
    test: ["./test/unit/nbd/defects.test.ts"],
  },
  {
    name: "a worker keeps its defect to itself",
    rule: null,
    file: "src/reactor/linux-defect.ts",
    find: "    post({",
    replace: "    void ({",
    test: named("./test/unit/reactor/reactor-loop.test.ts", "unhandled throw"),
  },
  {
    name: "the status of an array needs a drive that is there",
    rule: null,
    file: "src/array/commands/status.ts",
    find: "    superblocks[0] ?? record.lastSeen!,",
    replace: "    superblocks[0]!,",
    test: named("./test/sim/array/command-storm.test.ts", "removed by force"),
  },
];
