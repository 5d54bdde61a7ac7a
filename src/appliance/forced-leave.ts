/**
 * The process is about to leave though arrays have not stopped: which, and for which drives, is
 * said in the log and recorded as an event for each.
 *
 * state.db lies in the state directory, on none of the drives, so drives that hang do not keep an
 * event from it. Where its own disk hangs, too, the write does not return: so the log line is out
 * before, and whoever has asked for the stop has to kill.
 */
import type { UnstoppedArray } from "../array/protocol.ts";
import { wordFor } from "../base/counted.ts";
import type { Log } from "../base/log.ts";
import type { ReactorClient } from "./reactor-client.ts";
import { type Alarms, sleep } from "./state/alarms.ts";
import type { EventLog } from "./state/event-log.ts";

/** The reactor answers this from memory: one that takes longer hangs as well. */
const ANSWER_MS = 1_000;

export async function tellForcedLeave(parts: {
  readonly client: Pick<ReactorClient, "call">;
  readonly events: Pick<EventLog, "append">;
  readonly alarms: Alarms;
  readonly log: Log;
  /** How long the stop has taken. */
  readonly seconds: number;
}): Promise<void> {
  const { client, events, alarms, log, seconds } = parts;
  const asked = await Promise.race([
    client.call({ kind: "list-unstopped" }),
    sleep(alarms, ANSWER_MS).then(() => null),
  ]);
  const arrays = asked?.ok === true ? asked.value : null;
  log.write("error", "left though drives do not answer: their arrays stay dirty, which is safe", {
    seconds,
    arrays: arrays === null ? "unknown" : arrays.map(({ name }) => name).join(","),
    drives: arrays === null ? "unknown" : arrays.flatMap(({ drives }) => drives).join(","),
  });
  for (const array of arrays ?? [NO_ANSWER]) {
    events.append({
      ...{ kind: "array.left", severity: "warning", array: array.name },
      ...{ arrayUuid: array.uuid, drive: array.drives[0] ?? null, job: null },
      ...{ atMs: alarms.wallMs(), message: textOf(array, seconds) },
    });
  }
}

type Left = Omit<UnstoppedArray, "uuid"> & { readonly uuid: string | null };

/** Nothing is known of any array. */
const NO_ANSWER: Left = { name: "", uuid: null, drives: [] };

function textOf({ name, uuid, drives }: Left, seconds: number): string {
  const what = uuid === null ? "all arrays that ran" : `array ${name}`;
  const none = uuid === null ? "the reactor did not answer" : "it had not stopped";
  const { length } = drives;
  const answer = wordFor(length, "does not answer", "do not answer");
  const why = length === 0 ? none : `${wordFor(length, "drive")} ${drives.join(", ")} ${answer}`;
  return `parityd left ${what} dirty after ${seconds} s of its stop, which is safe: ${why}`;
}
