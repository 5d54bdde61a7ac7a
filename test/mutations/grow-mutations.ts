/** Ways to break the growth of an array (array/sync/grow.ts). */
import type { Mutation } from "./mutations.ts";

const GROW = "src/array/sync/grow.ts";
const STORIES = "./test/sim/array/grow.test.ts";
const DECISIONS = "./test/unit/md/growth.test.ts";

function story(name: string): readonly string[] {
  return [STORIES, "-t", name];
}

function decision(name: string): readonly string[] {
  return [DECISIONS, "-t", name];
}

export const GROW_MUTATIONS: readonly Mutation[] = [
  {
    name: "grow: the new part is taken as it is",
    rule: null,
    file: GROW,
    find: "const isReady = (await recordRoom(core)) && (readsZeros || (await syncNewPart(run, fromStripe)));",
    replace: "const isReady = await recordRoom(core);",
    test: story("resync: under writes"),
  },
  {
    name: "grow: any drive is taken to read zeros behind its data",
    rule: null,
    file: "src/array/drives/drive.ts",
    find: "    return this.zerosFrom <= (dataOffsetSectors + sizeSectors) * SECTOR_BYTES;",
    replace: "    return sizeSectors > 0;",
    test: story("resync: under writes"),
  },
  {
    name: "grow: the size is on record before parity is right",
    rule: null,
    file: GROW,
    find: "  geometry.resize(sizeSectors * SECTOR_BYTES);\n",
    replace: "  geometry.resize(sizeSectors * SECTOR_BYTES);\n  core.state.growTo(sizeSectors);\n",
    test: story("resync: a crash in it"),
  },
  {
    name: "grow: what was cut short leaves the engine with the new size",
    rule: null,
    file: GROW,
    find: "    if (!isOnRecord) geometry.resize(fromStripe * geometry.chunkBytes);\n",
    replace: "",
    test: story("cancelled"),
  },
  {
    name: "grow: superblocks have the size of before the change",
    rule: null,
    file: "src/array/running/superblock-state.ts",
    find: "      sizeSectors: this.ownIdentity.sizeSectors,\n",
    replace: "",
    test: story("resync: under writes"),
  },
  {
    name: "grow: the bitmap keeps its size",
    rule: null,
    file: GROW,
    find: "      policy.grow(sizeSectors);\n",
    replace: "",
    test: story("bitmap: under writes"),
  },
  {
    name: "grow: at one event count the larger size holds",
    rule: null,
    file: "src/md/assemble/assemble.ts",
    find: "one.sizeSectors < other.sizeSectors",
    replace: "one.sizeSectors > other.sizeSectors",
    test: decision("the only one that has it is lost"),
  },
  {
    name: "grow: a member that the update did not reach keeps the size of before",
    rule: null,
    file: "src/md/assemble/assemble.ts",
    find: "  return { ...candidate, superblock: { ...superblock, sizeSectors } };",
    replace: "  return candidate;",
    test: decision("cut short anywhere"),
  },
  {
    name: "grow: bits that stand for more let members of before back",
    rule: null,
    file: "src/md/bitmap-grow.ts",
    find: "eventsCleared: options.events };",
    replace: "eventsCleared: header.eventsCleared };",
    test: decision("without room each bit stands for more"),
  },
  {
    name: "grow: a session is held to the size that it was told",
    rule: null,
    file: "src/nbd/transmission.ts",
    find: "    this.sizeBytes = attachment.front.sizeBytes;\n",
    replace: "    this.sizeBytes ||= attachment.front.sizeBytes;\n",
    test: story("over NBD"),
  },
];
