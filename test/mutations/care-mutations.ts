/** Ways to break how drives are found, watched and told of, whatever array has them. */
import type { Mutation } from "./mutations.ts";

const JUDGE = ["./test/unit/appliance/scan-judge.test.ts"];
const TOOLS = ["./test/unit/appliance/linux-tool.test.ts"];
const CALLS = ["./test/unit/api/drive-tools.test.ts"];
const SCAN = ["./test/unit/api/drive-scan.test.ts"];

export const CARE_MUTATIONS: readonly Mutation[] = [
  {
    name: "scan: a copy is added beside what it is a copy of",
    rule: null,
    file: "src/appliance/drives/scan-judge.ts",
    find: "if (!isOneDisk) return",
    replace: "if (!isOneDisk && twins[0] !== device) return",
    test: JUDGE,
  },
  {
    name: "scan: members of a deleted array come back by themselves",
    rule: null,
    file: "src/appliance/drives/scan-judge.ts",
    find: "if (scene.deleted.has(member.arrayUuid)) {",
    replace: "if (scene.deleted.has(member.deviceUuid)) {",
    test: SCAN,
  },
  {
    name: "scan: a dry run adds",
    rule: null,
    file: "src/appliance/drives/drive-scan.ts",
    find: "const found = dryRun ? judged :",
    replace: "const found = judged.length === 0 ? judged :",
    test: SCAN,
  },
  {
    name: "shared disks: file systems without a disk count as one",
    rule: null,
    file: "src/appliance/drives/shared-disks.ts",
    find: "if (isDisk(disk)) byDisk",
    replace: "byDisk",
    test: SCAN,
  },
  {
    name: "appeared: waits for the next look",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: "const APPEARED_MS = 50;",
    replace: "const APPEARED_MS = 60_000;",
    test: [...CALLS, "-t", "before the next look"],
  },
  {
    name: "tools: the deadline of a tool is not kept",
    rule: null,
    file: "src/appliance/host/linux-tool.ts",
    find: 'setTimeout(() => late.resolve("late"), deadlineMs);',
    replace: "setTimeout(() => {}, deadlineMs);",
    test: TOOLS,
  },
  {
    name: "tools: what a tool prints is taken without an end",
    rule: null,
    file: "src/appliance/host/linux-tool.ts",
    find: "if (this.bytes > bytesMax) {",
    replace: "if (this.bytes > bytesMax * 1e9) {",
    test: TOOLS,
  },
  {
    name: "tools: a tool that is still there is started again",
    rule: null,
    file: "src/appliance/host/linux-tool.ts",
    find: "if (this.alive.has(key)) return",
    replace: "if (this.alive.has(program)) return",
    test: TOOLS,
  },
  {
    name: "locate: the lights of all other disks go out",
    rule: null,
    file: "src/appliance/drives/locator.ts",
    find: 'words: ["--listed-only", ',
    replace: "words: [",
    test: [...CALLS, "-t", "light alone"],
  },
];
