/** Ways to break what is around the arrays: names, the state, drives that move, what is told. */
import type { Mutation } from "./mutations.ts";

const STORIES = "./test/life/stories.test.ts";
const LIVES = "./test/life/life.test.ts";

function story(name: string): readonly string[] {
  return [STORIES, "-t", name];
}

export const LIFE_MUTATIONS: readonly Mutation[] = [
  // Kind 1: a name serves another array's data.
  {
    name: "life: a deleted array starts by itself",
    rule: null,
    file: "src/appliance/state/array-book.ts",
    find: 'mayStart: array.standing !== "deleted",',
    replace: "mayStart: true,",
    test: story("a deleted array whose drives stay"),
  },
  {
    name: "life: labels by the order of drives",
    rule: null,
    file: "src/appliance/state/array-book.ts",
    find: "this.holderOf(label) !== null || this.isClaimed(label);",
    replace: "label.length === 0;",
    test: story("two arrays of one name"),
  },
  {
    name: "life: exports go by name",
    rule: null,
    file: "src/appliance/state/export-book.ts",
    find: "const entry = { name, arrayUuid, array,",
    replace: "const entry = { name, arrayUuid: null, array,",
    test: story("a deleted array whose drives stay"),
  },
  {
    name: "life: a deletion keeps the exports",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: '...exports.map(({ name }): StateChange => ({ kind: "delete-export", name })),',
    replace: "...exports.flatMap((): StateChange[] => []),",
    test: [LIVES, "-t", "seeds 1 to 25"],
  },
  {
    name: "life: a refused create by force has given the name up",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: "if (holder !== null) await this.takeBack(holder, offered);",
    replace: "",
    test: story("a create by force that fails"),
  },
  {
    name: "life: an array that is starting counts as absent",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: 'if (this.isStarting()) return nameInUse(holder, "its drives are still being opened");',
    replace: "",
    test: story("while the drives are being opened"),
  },
  {
    name: "life: an array is referred to before it is there",
    rule: null,
    file: "src/appliance/array-standing.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    find: "return this.calls.holding([`label:${name}`, `array:${uuid}`], async () => {",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    replace: "return this.calls.holding([`label:${name}`], async () => {",
    test: story("an export put while its array is made"),
  },
  {
    name: "life: a rename does not hold the name",
    rule: null,
    file: "src/appliance/array-standing.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    find: "const renamed = await this.calls.holding([`label:${name}`], () =>",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    replace: "const renamed = await this.calls.holding([`from:${uuid}`], () =>",
    test: story("two renames to one name"),
  },
  // Kind 4: the state.
  {
    name: "life: an array is recorded after the act",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: 'const recorded = await effects.commit({ kind: "put-array", array }, ...givenUp);',
    replace:
      'effects.note({ kind: "put-array", array }, ...givenUp);\n      const recorded = ok(null);',
    test: story("the state directory is full"),
  },
  {
    name: "life: a drive is forgotten whether or not that is recorded",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: 'const recorded = await effects.commit({ kind: "delete-drive", name });',
    replace: 'effects.note({ kind: "delete-drive", name });\n      const recorded = ok(null);',
    test: story("the state directory is full"),
  },
  {
    name: "life: a drive is added whether or not that is recorded",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: 'const recorded = await effects.commit({ kind: "put-drive", drive });',
    replace: 'effects.note({ kind: "put-drive", drive });\n    const recorded = ok(null);',
    test: story("the state directory is full"),
  },
  {
    name: "life: two drives are added at one path",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: "this.adding.set(name, drive);",
    replace: "this.adding.delete(name);",
    test: story("a drive hangs as it is added"),
  },
  {
    name: "life: a deleted array is listed when its last drive has gone to another",
    rule: null,
    file: "src/appliance/appliance.ts",
    find: 'return state !== "inactive" && state !== "absent";',
    replace: 'return state !== "inactive";',
    test: story("the drives of a deleted array go to another"),
  },
  // Kind 5: commands that overlap.
  {
    name: "life: commands hold nothing",
    rule: null,
    file: "src/array/commands/command-leases.ts",
    find: "const lease = await leases.take(keys, holder, (giveUp) => {",
    replace: "const lease = await leases.take([], holder, (giveUp) => {",
    test: ["./test/sim/array/command-storm.test.ts"],
  },
  {
    name: "life: no drive that answers is an assertion",
    rule: null,
    file: "src/array/start/needs.ts",
    find: "if (candidates.length === 0) return err(noneAnswers(registry, record));",
    replace: "",
    test: story("an array none of whose drives answers"),
  },
  // Kind 6: the start.
  {
    name: "life: a start of what runs is refused",
    rule: null,
    file: "src/array/start/start.ts",
    find: "if (!readOnly || running?.core.readOnlyReason !== null) return ok();",
    replace: "",
    test: story("start of a deleted array"),
  },
  {
    name: "life: what is at the path is the drive",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    find: "if (!this.isSettled) return notThisDrive(`${path} holds something else`);",
    replace: "if (drive.deviceUuid !== null) return null;",
    test: story("disks without a lasting name"),
  },
  {
    name: "life: missing drives are not looked for",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: "void this.lookForMissing(isDeep).then(() => this.watch());",
    replace: "if (isDeep && this.looks < 0) void this.lookForMissing(isDeep);",
    test: story("a disk that comes after the start"),
  },
  {
    name: "life: a start that is refused for a fence brings a deleted array back",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: "if (this.drives.isFenced(uuid)) return err(isFenced(before));",
    replace:
      "if (this.drives.isFenced(uuid)) { await this.revive(before); return err(isFenced(before)); }",
    test: story("start of a deleted array that another host"),
  },
  {
    name: "life: a create by force writes before it knows that all drives take it",
    rule: null,
    file: "src/array/commands/create.ts",
    find: "const unwritable = await onAll(all, (drive) => takesWrites(registry, drive));",
    replace:
      "const unwritable = all.length > 99 ? await onAll(all, (drive) => takesWrites(registry, drive)) : null;",
    test: story("a create by force over a stopped array"),
  },
  {
    name: "life: an array whose making was cut short can be exported",
    rule: null,
    file: "src/appliance/state/export-book.ts",
    find: "if (this.arrays.isUnfinished(arrayUuid)) return err(isUnfinishedArray(wanted.array));",
    replace: "",
    test: story("an export put after a kill in the middle"),
  },
  {
    name: "life: the removal of an export does not hold its array",
    rule: null,
    file: "src/appliance/state/export-book.ts",
    find: "if (arrayUuid === null) return work();",
    replace: "if (arrayUuid !== '') return work();",
    test: story("an export's removal that is refused"),
  },
  {
    name: "life: a fenced array waits for what a hung drive owes",
    rule: null,
    file: "src/array/running/fence.ts",
    find: "each.giveUp(core.context);",
    replace: "",
    test: story("SIGTERM of a fenced array"),
  },
  {
    name: "life: what happened a moment before the stop is forgotten",
    rule: null,
    file: "src/appliance/appliance.ts",
    find: "await this.observe();",
    replace: "",
    test: story("mismatches that a scrub found"),
  },
  {
    name: "life: what a disk holds is what it held when it was added",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: 'return client.call({ kind: "note-content", name, signature: content.value });',
    replace: "return ok(null);",
    test: ["./test/e2e/somebodys-data.test.ts"],
  },
  {
    name: "life: an array that lacked two drives waits for ever for the last",
    rule: null,
    file: "src/appliance/appliance.ts",
    find: "if (this.lackingMs !== null) this.startLackingAfter(this.lackingMs);",
    replace: "",
    test: story("the last but one disk comes after the wait"),
  },
  {
    name: "life: a renamed file is taken at once",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: "if (this.isLyingAround(device.path)) {",
    replace: "if (this.isLyingAround(device.path) && this.looks < 0) {",
    test: story("a renamed file"),
  },
  {
    name: "life: a file that appears later is held to be a renamed one",
    rule: null,
    file: "src/appliance/drive-places.ts",
    find: "if (this.foldersSeen.has(folder)) continue;",
    replace: "",
    test: story("a file that appears under another name"),
  },
  {
    name: "life: the path of another drive is a new name",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    find: "&& !this.known.some((known) => known.path === path);",
    replace: ";",
    test: story("two files that have each other's name"),
  },
  {
    name: "life: a new superblock makes another disk",
    rule: null,
    file: "src/appliance/drive-keeper.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    find: "return byId === drive.byId ? null : notThisDrive(`${path} is another disk (${byId})`);",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of the source.
    replace: "return notThisDrive(`${path} is another disk (${byId})`);",
    test: story("a create, and the daemon is killed at once"),
  },
  {
    name: "life: a stop waits for a drive that hangs",
    rule: 14,
    file: "src/array/raid-array.ts",
    find: "this.front.isStopping = true;",
    replace: "this.front.isStopping = true;\n    this.deadlines.stop();",
    test: story("SIGTERM while a drive hangs"),
  },
  // Kind 9: under clients.
  {
    name: "life: arrays are taken from under their clients",
    rule: null,
    file: "src/wiring/reactor-service.ts",
    find: "if (count === 0) return null;",
    replace: "if (count >= 0) return null;",
    test: story("stop, delete and zero with a client"),
  },
  {
    name: "life: a deletion that was refused is kept",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: "      await this.takeBack(known, offered);",
    replace: "",
    test: story("stop, delete and zero with a client"),
  },
  // Kind 10: truth.
  {
    name: "life: an array that is gone is not told of",
    rule: null,
    file: "src/appliance/state/array-book.ts",
    find: '.filter(({ uuid, standing }) => standing === "known" && !present.has(uuid))',
    replace: '.filter(({ uuid, standing }) => standing === "creating" && !present.has(uuid))',
    test: story("an array that was known and is gone"),
  },
  {
    name: "life: a stale drive is shown in the seat of the true one",
    rule: null,
    file: "src/array/commands/status.ts",
    find: "return isCurrent && isListed && roleOf",
    replace: "return (isCurrent || isListed || true) && roleOf",
    test: story("a stale drive in the place of its successor"),
  },
  {
    name: "life: an array whose last drive joined another is still listed",
    rule: null,
    file: "src/array/commands/members.ts",
    find: "if (before !== null) registry.dropIfEmpty(before);",
    replace: "",
    test: story("the last drive of a deleted array"),
  },
];
