/** Ways to break how drives are found, watched and told of, whatever array has them. */
import type { Mutation } from "./mutations.ts";

const JUDGE = ["./test/unit/appliance/scan-judge.test.ts"];
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
    find: "if (!NO_DISK.test(disk)) byDisk",
    replace: "byDisk",
    test: SCAN,
  },
];
