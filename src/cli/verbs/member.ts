/** `parityd member add|replace|remove|fail`. */
import type { FailForecast } from "../../appliance/fail-forecast.ts";
import type { ArrayStatus, JobStatus } from "../../array/protocol.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import { renderFailForecast } from "../forecast-text.ts";
import type { CliHost } from "../host.ts";
import { tell, tellDone } from "../tell.ts";
import { followBegun } from "./begun-job.ts";
import { warnOfNewDrives } from "./shared-disk-warning.ts";
import { DRY_RUN, RUN_DIR, WAIT } from "./shared-options.ts";

const ARRAY = { name: "ARRAY", names: "arrays" } as const;
const OPERANDS = [ARRAY, { name: "DRIVE", names: "drives" }] as const;

export const memberCommands: readonly CommandSpec[] = [
  {
    path: ["member", "add"],
    summary: "Add a drive: rebuilt where a role is free, a spare where none is",
    examples: ["parityd member add tank d4 --wait"],
    answers: ["parityd.job/1", "parityd.array/1"],
    operands: OPERANDS,
    options: {
      force: { type: "boolean", help: "overwrite a known signature on the drive" },
      ...WAIT,
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: addMember,
  },
  {
    path: ["member", "replace"],
    summary: "Copy a member to another drive while it serves, and swap the two",
    examples: ["parityd member replace tank d1 d4"],
    answers: ["parityd.job/1"],
    operands: [ARRAY, { name: "OLD", names: "drives" }, { name: "NEW", names: "drives" }],
    options: {
      force: { type: "boolean", help: "overwrite a known signature on the new drive" },
      ...WAIT,
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: replaceMember,
  },
  {
    path: ["member", "remove"],
    summary: "Release a faulty member or a spare from its array",
    examples: ["parityd member remove tank d1"],
    answers: ["parityd.done/1"],
    operands: OPERANDS,
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const removed = await new DaemonClient(host, invocation).call(
        "DELETE",
        `${membersPath(invocation)}/${encodeURIComponent(invocation.operand(1))}`,
      );
      if (!removed.ok) return fail(host, removed.error);
      tellDone(invocation, host, { did: "member remove", of: invocation.operand(1) });
      return Exit.ok;
    },
  },
  {
    path: ["member", "fail"],
    summary: "Take a member for faulty; with --dry-run only say what would follow",
    examples: ["parityd member fail tank d1 --dry-run"],
    answers: ["parityd.array/1"],
    operands: OPERANDS,
    options: { ...DRY_RUN, ...RUN_DIR },
    run: failMember,
  },
];

async function failMember(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const path = `${membersPath(invocation)}/${encodeURIComponent(invocation.operand(1))}/fail`;
  if (invocation.isSet("dry-run")) {
    const plan = await client.call<FailForecast>("POST", path, {});
    if (!plan.ok) return fail(host, plan.error);
    for (const line of renderFailForecast(plan.value.value)) host.print(line);
    return Exit.ok;
  }
  const failed = await client.call<ArrayStatus>("POST", path, {});
  if (!failed.ok) return fail(host, failed.error);
  const { value } = failed.value;
  const lines = (): readonly string[] => [`${value.name} is ${value.state}`];
  tell(invocation, host, { schema: "parityd.array/1", value, lines });
  return Exit.ok;
}

async function addMember(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const drive = invocation.operand(1);
  const body = { drive, force: invocation.isSet("force") };
  const added = await client.call<JobStatus | ArrayStatus>("POST", membersPath(invocation), body);
  if (!added.ok) return fail(host, added.error);
  const { value } = added.value;
  await warnOfNewDrives(client, host, { arrayPath: arrayPath(invocation), drives: [drive] });
  if (!("kind" in value)) {
    const lines = (): readonly string[] => [`${drive} is a spare of ${value.name}`];
    tell(invocation, host, { schema: "parityd.array/1", value, lines });
    return Exit.ok;
  }
  return followBegun(invocation, host, client, value);
}

async function replaceMember(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const path = `${membersPath(invocation)}/${encodeURIComponent(invocation.operand(1))}/replace`;
  const body = { with: invocation.operand(2), force: invocation.isSet("force") };
  const started = await client.call<JobStatus>("POST", path, body);
  if (!started.ok) return fail(host, started.error);
  await warnOfNewDrives(client, host, { arrayPath: arrayPath(invocation), drives: [body.with] });
  return followBegun(invocation, host, client, started.value.value);
}

function arrayPath(invocation: Invocation): string {
  return `/v1/arrays/${encodeURIComponent(invocation.operand(0))}`;
}

function membersPath(invocation: Invocation): string {
  return `${arrayPath(invocation)}/members`;
}
