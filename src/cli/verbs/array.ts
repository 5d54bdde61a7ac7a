/** `parityd array create|list|show|start|stop|set|grow|delete`. */

import { offerDrives } from "../../appliance/drive-offers.ts";
import type { StatusDocument } from "../../appliance/status-document.ts";
import type { ArrayStatus, DriveStatus, JobStatus } from "../../array/protocol.ts";
import {
  NEW_ARRAY_CHUNK_BYTES_MAX,
  NEW_ARRAY_CHUNK_BYTES_MIN,
  NEW_ARRAY_MEMBERS_MAX,
  NEW_ARRAY_MEMBERS_MIN,
} from "../../base/limits.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes, KIB, MIB } from "../../base/units.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { parseBytes } from "../quantity.ts";
import { settingsText } from "../setting-text.ts";
import { renderArray } from "../status-text.ts";
import { suspectSettings } from "../suspect-text.ts";
import { renderTable } from "../table-text.ts";
import { tell } from "../tell.ts";
import { deleteArray } from "./array-delete.ts";
import { followBegun } from "./begun-job.ts";
import { warnOfNewDrives, warnOfSharedDisks } from "./shared-disk-warning.ts";
import { DRY_RUN, RUN_DIR, WAIT } from "./shared-options.ts";

const CHUNKS = `${NEW_ARRAY_CHUNK_BYTES_MIN / KIB}KiB to ${NEW_ARRAY_CHUNK_BYTES_MAX / MIB}MiB`;

const SUSPECT = "a member is suspect with N (0: never) a day:";

const ARRAY = { name: "NAME", names: "arrays" } as const;

const POLICIES = ["ppl", "bitmap", "resync"] as const;

const FORCE_CLIENTS: CommandSpec["options"] = {
  force: { type: "boolean", help: "also while clients are connected: their requests fail" },
};

export const arrayCommands: readonly CommandSpec[] = [
  {
    path: ["array", "create"],
    summary: `Create a RAID5 array of ${NEW_ARRAY_MEMBERS_MIN} to ${NEW_ARRAY_MEMBERS_MAX} drives`,
    examples: [
      "parityd array create tank d0 d1 d2 --spare d3",
      "parityd array create tank d0 d1 d2 --dry-run",
    ],
    answers: ["parityd.array/1"],
    operands: [{ name: "NAME" }, { name: "DRIVE", many: true, names: "drives" }],
    options: {
      spare: {
        ...{ type: "string", multiple: true, value: "DRIVE", names: "drives" },
        help: "a spare; may be repeated",
      },
      chunk: { type: "string", value: "SIZE", help: `${CHUNKS}, a power of two (64KiB)` },
      policy: {
        ...{ type: "string", value: "POLICY", choices: POLICIES },
        help: "ppl, bitmap or resync (ppl)",
      },
      size: { type: "string", value: "SIZE", help: "bytes used of each drive (all that fits)" },
      sparse: { type: "boolean", help: "leave members that are files without their space" },
      "assume-clean": { type: "boolean", help: "no first resync: drives that read as zeros" },
      force: { type: "boolean", help: "overwrite known signatures" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: createArray,
  },
  {
    path: ["array", "list"],
    summary: "List the arrays",
    examples: ["parityd array list"],
    answers: ["parityd.arrays/1"],
    operands: [],
    options: { ...RUN_DIR },
    run: async (invocation, host) => {
      const arrays = await new DaemonClient(host, invocation).get<ArrayStatus[]>("/v1/arrays");
      if (!arrays.ok) return fail(host, arrays.error);
      const value = { arrays: arrays.value.value };
      const rows = value.arrays.map((array) => [
        array.name,
        array.state,
        formatBytes(array.sizeBytes),
        array.members.length,
        array.uuid,
      ]);
      const header = ["array", "state", "size", "members", "uuid"];
      const lines = (columns: number) => renderTable(header, rows, columns);
      tell(invocation, host, { schema: "parityd.arrays/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["array", "show"],
    summary: "Show one array and its members",
    examples: ["parityd array show tank"],
    answers: ["parityd.array/1"],
    operands: [ARRAY],
    options: { ...RUN_DIR },
    run: showArray,
  },
  {
    path: ["array", "start"],
    summary: "Assemble an array from the drives present",
    examples: ["parityd array start tank"],
    answers: ["parityd.array/1"],
    operands: [ARRAY],
    options: {
      force: { type: "boolean", help: "start also where that may show stale data" },
      "read-only": { type: "boolean", help: "write not one byte to any member" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: (invocation, host) =>
      changeArray(invocation, host, {
        action: "start",
        body: { force: invocation.isSet("force"), readOnly: invocation.isSet("read-only") },
      }),
  },
  {
    path: ["array", "stop"],
    summary: "Stop an array; its members are marked clean",
    examples: ["parityd array stop tank"],
    answers: ["parityd.array/1"],
    operands: [ARRAY],
    options: { ...FORCE_CLIENTS, ...DRY_RUN, ...RUN_DIR },
    run: (invocation, host) =>
      changeArray(invocation, host, {
        action: "stop",
        body: { force: invocation.isSet("force") },
      }),
  },
  {
    path: ["array", "set"],
    summary: "Change an array's name, policy, size, speeds, deadlines, what makes a member suspect",
    examples: [
      "parityd array set tank --policy bitmap --sync-max 200MiB",
      "parityd array set tank --size max",
    ],
    answers: ["parityd.array/1"],
    operands: [ARRAY],
    options: {
      name: { type: "string", value: "NEW", help: "call it so from now on, on the members too" },
      policy: {
        ...{ type: "string", value: "POLICY", choices: POLICIES },
        help: "ppl, bitmap or resync",
      },
      size: { type: "string", value: "SIZE", help: "grow: use so much of each member, or max" },
      "sync-min": {
        type: "string",
        value: "SIZE",
        help: "sync speed a second beside clients (0: it waits)",
      },
      "sync-max": {
        ...{ type: "string", value: "SIZE" },
        help: "sync speed a second at most, or none (also max): no limit",
      },
      "read-deadline": { type: "string", value: "MS", help: "answer late reads from parity" },
      "write-deadline": { type: "string", value: "MS", help: "fail a member that does not write" },
      "suspect-write-errors": { type: "string", value: "N", help: `${SUSPECT} write errors` },
      "suspect-fixed": { type: "string", value: "N", help: `${SUSPECT} sectors rewritten` },
      "suspect-late-reads": { type: "string", value: "N", help: `${SUSPECT} late reads` },
      "suspect-latency": { type: "string", value: "N", help: "or N times as slow as its peers" },
      "replace-suspects": {
        ...{ type: "string", value: "yes|no", choices: ["yes", "no"] },
        help: "by a spare, by themselves",
      },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: setArray,
  },
  {
    path: ["array", "grow"],
    summary: "Lay an array out over more drives while it serves; there is no way back",
    examples: ["parityd array grow tank d4 --wait"],
    answers: ["parityd.job/1"],
    operands: [
      { name: "ARRAY", names: "arrays" },
      { name: "DRIVE", many: true, names: "drives" },
    ],
    options: {
      force: { type: "boolean", help: "overwrite known signatures on the drives" },
      ...WAIT,
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: growArray,
  },
  {
    path: ["array", "delete"],
    summary: "Stop an array and forget it",
    examples: [
      "parityd array delete tank --dry-run",
      "parityd array delete tank --yes tank --zero-superblocks",
    ],
    answers: ["parityd.done/1"],
    operands: [ARRAY],
    options: {
      yes: { type: "string", value: "NAME", help: "the array's name again, as a confirmation" },
      "zero-superblocks": {
        type: "boolean",
        help: "erase what makes the drives members, former ones too",
      },
      ...FORCE_CLIENTS,
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: deleteArray,
  },
];

async function createArray(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const [name = "", ...drives] = invocation.operands;
  const sizes: Record<string, number> = {};
  for (const [option, key] of [
    ["chunk", "chunkKiB"],
    ["size", "sizeKiB"],
  ] as const) {
    const text = invocation.text(option);
    if (text === undefined) continue;
    const kib = parseKib(text);
    if (!kib.ok) return usageFailure(host, kib.error);
    sizes[key] = kib.value;
  }
  const policy = invocation.text("policy");
  const body = {
    name,
    drives,
    ...sizes,
    spares: invocation.texts("spare"),
    ...(policy === undefined ? {} : { consistencyPolicy: policy }),
    assumeClean: invocation.isSet("assume-clean"),
    ...(invocation.isSet("sparse") ? { allocate: false } : {}),
    force: invocation.isSet("force"),
  };
  if (invocation.isSet("dry-run")) return printCreatePlan(client, host, body);
  const created = await client.call<ArrayStatus>("POST", "/v1/arrays", body);
  if (!created.ok) return fail(host, created.error);
  const { value } = created.value;
  const size = formatBytes(value.sizeBytes);
  tellArray(invocation, host, { array: value, line: `${name} is there: ${size}, ready for use` });
  warnOfSharedDisks(host, value.sharedDisks ?? []);
  return Exit.ok;
}

/** The array as it is now, or a line of what came of it. */
function tellArray(
  invocation: Invocation,
  host: CliHost,
  { array, line }: { array: ArrayStatus; line: string },
): void {
  tell(invocation, host, { schema: "parityd.array/1", value: array, lines: () => [line] });
}

async function setArray(invocation: Invocation, host: CliHost): Promise<number> {
  const body: Record<string, string | number | boolean> = {};
  const newName = invocation.text("name");
  if (newName !== undefined) body["name"] = newName;
  const policy = invocation.text("policy");
  if (policy !== undefined) body["consistencyPolicy"] = policy;
  const size = invocation.text("size");
  if (size === "max") body["sizeKiB"] = size;
  else if (size !== undefined) {
    const kib = parseKib(size);
    if (!kib.ok) return usageFailure(host, kib.error);
    body["sizeKiB"] = kib.value;
  }
  for (const [option, key] of [
    ["sync-min", "syncSpeedMin"],
    ["sync-max", "syncSpeedMax"],
  ] as const) {
    const text = invocation.text(option);
    if (text === undefined) continue;
    const isUnlimited = option === "sync-max" && ["none", "max"].includes(text);
    const least = isUnlimited ? Number.MAX_SAFE_INTEGER : 0;
    const bytes = isUnlimited || text === "0" ? ok(least) : parseBytes(text);
    if (!bytes.ok) return usageFailure(host, `--${option} ${bytes.error}`);
    body[key] = bytes.value;
  }
  for (const [option, key] of [
    ["read-deadline", "readDeadlineMs"],
    ["write-deadline", "writeDeadlineMs"],
  ] as const) {
    const text = invocation.text(option);
    if (text === undefined) continue;
    if (!/^[0-9]+$/.test(text)) return usageFailure(host, `${text} is no number of milliseconds`);
    body[key] = Number(text);
  }
  for (const [option, key] of [
    ["suspect-write-errors", "suspectWriteErrors"],
    ["suspect-fixed", "suspectFixedSectors"],
    ["suspect-late-reads", "suspectLateReads"],
    ["suspect-latency", "suspectLatencyFactor"],
  ] as const) {
    const text = invocation.text(option);
    if (text === undefined) continue;
    if (!/^[0-9]+$/.test(text)) return usageFailure(host, `${text} is no whole number`);
    body[key] = Number(text);
  }
  const replaces = invocation.text("replace-suspects");
  if (replaces !== undefined && !["yes", "no"].includes(replaces)) {
    return usageFailure(host, `--replace-suspects is yes or no, not ${replaces}`);
  }
  if (replaces !== undefined) body["replaceSuspects"] = replaces === "yes";
  if (Object.keys(body).length === 0) return usageFailure(host, "name a setting to change");
  const name = invocation.operands[0]!;
  const client = new DaemonClient(host, invocation);
  const path = `/v1/arrays/${encodeURIComponent(name)}`;
  const changed = await client.call<ArrayStatus>("PATCH", path, body);
  if (!changed.ok) return fail(host, changed.error);
  const array = changed.value.value;
  const settings = settingsText(array, Object.keys(body));
  const reached = formatBytes(array.sizeBytes);
  const growth =
    array.sync.action === "grow"
      ? `${array.name}: grows from ${reached}; status shows how far it is`
      : `${array.name}: ${reached}`;
  const lines = (): readonly string[] => [
    ...(settings === "" ? [] : [`${array.name}: ${settings}`]),
    ...(size === undefined ? [] : [growth]),
  ];
  tell(invocation, host, { schema: "parityd.array/1", value: array, lines });
  return Exit.ok;
}

async function growArray(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const [, ...drives] = invocation.operands;
  const body = { drives, force: invocation.isSet("force") };
  const begun = await client.call<JobStatus>("POST", `${arrayPath(invocation)}/grow`, body);
  if (!begun.ok) return fail(host, begun.error);
  await warnOfNewDrives(client, host, { arrayPath: arrayPath(invocation), drives });
  return followBegun(invocation, host, client, begun.value.value);
}

function parseKib(text: string): Result<number, string> {
  const bytes = parseBytes(text);
  if (!bytes.ok) return bytes;
  if (bytes.value % KIB === 0) return ok(bytes.value / KIB);
  return err(`${text} is not a whole number of KiB`);
}

/** What the call itself would answer, and what it would overwrite. */
async function printCreatePlan(
  client: DaemonClient,
  host: CliHost,
  plan: { name: string; drives: readonly string[]; spares: readonly string[] },
): Promise<number> {
  const judged = await client.call<ArrayStatus>("POST", "/v1/arrays", plan);
  if (!judged.ok) return fail(host, judged.error);
  const known = await client.get<DriveStatus[]>("/v1/drives");
  if (!known.ok) return fail(host, known.error);
  const size = formatBytes(judged.value.value.sizeBytes);
  host.print(`would create ${plan.name}, ${size}, RAID5 of ${plan.drives.length} drives:`);
  for (const name of [...plan.drives, ...plan.spares]) {
    const drive = known.value.value.find((candidate) => candidate.name === name);
    const role = plan.spares.includes(name) ? "spare" : `role ${plan.drives.indexOf(name)}`;
    if (drive === undefined) continue;
    const holds = drive.detail === undefined ? drive.state : `${drive.state}: ${drive.detail}`;
    host.print(`  ${role}: ${name} ${drive.path} (${formatBytes(drive.sizeBytes)}, ${holds})`);
  }
  warnOfSharedDisks(host, judged.value.value.sharedDisks ?? []);
  return Exit.ok;
}

async function showArray(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const array = await client.get<ArrayStatus>(arrayPath(invocation));
  if (!array.ok) return fail(host, array.error);
  const status = await client.get<StatusDocument>("/v1/status");
  if (!status.ok) return fail(host, status.error);
  const around = status.value.value;
  // What is offered for its members depends on what is offered for those of others.
  const offers = offerDrives(around.arrays, around.drives);
  const { value } = array.value;
  const lines = (columns: number) => [
    ...renderArray(value, { ...around, offers, columns }),
    ` ${suspectSettings(value)}`,
  ];
  tell(invocation, host, { schema: "parityd.array/1", value, lines });
  return Exit.ok;
}

async function changeArray(
  invocation: Invocation,
  host: CliHost,
  { action, body }: { action: "start" | "stop"; body: object },
): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const path = `${arrayPath(invocation)}/${action}`;
  const changed = await client.call<ArrayStatus>("POST", path, body);
  if (!changed.ok) return fail(host, changed.error);
  const array = changed.value.value;
  tellArray(invocation, host, { array, line: `${array.name} is ${array.state}` });
  return Exit.ok;
}

function arrayPath(invocation: Invocation): string {
  return `/v1/arrays/${encodeURIComponent(invocation.operand(0))}`;
}
