/** The buttons of an array, of each member and of the spares. */
import type { ArrayStatus, MemberStatus } from "../../array/statuses.ts";
import type { ActionSpec } from "../action-spec.ts";
import { type Scene, useScene } from "../context.ts";
import {
  addMemberAction,
  deleteAction,
  exportAction,
  failAction,
  growAction,
  rehearseAction,
  removeMemberAction,
  replaceAction,
  scrubAction,
  startAction,
  stopAction,
} from "./array-specs.ts";
import { isThere } from "./array-words.ts";
import { scheduleAction } from "./host-specs.ts";

export type Labelled = readonly [label: string, action: ActionSpec];

/** States in which an array serves; in others that are no rest it can only be stopped. */
const SERVING = new Set<ArrayStatus["state"]>(["clean", "active", "degraded", "read-only"]);

export function ArrayActions({ array }: { readonly array: ArrayStatus }) {
  const { status } = useScene();
  return <ActionButtons actions={actionsOf(array, status)} of={array.name} />;
}

function actionsOf(array: ArrayStatus, { drives, schedules }: Scene["status"]): Labelled[] {
  const destroying: Labelled[] = [["Delete", deleteAction(array)]];
  if (array.startNeeds !== null) return [["Start", startAction(array)], ...destroying];
  destroying.unshift(["Stop", stopAction(array)]);
  if (!SERVING.has(array.state)) return destroying;
  const schedule = schedules.find(({ arrayUuid }) => arrayUuid === array.uuid);
  return [
    [array.pausedScrub === null ? "Scrub" : "Resume scrub", scrubAction(array)],
    ["Export", exportAction(array)],
    ["Add a drive", addMemberAction(array, drives)],
    ["More members", growAction(array, drives)],
    ["Schedule", scheduleAction(array, schedule)],
    ...destroying,
  ];
}

interface MemberProps {
  readonly array: ArrayStatus;
  readonly member: MemberStatus;
}

export function MemberActions({ array, member }: MemberProps) {
  const { status } = useScene();
  const { drive } = member;
  if (drive === null) return null;
  const actions: Labelled[] = isThere(member)
    ? [
        ["Fail", failAction(array, drive)],
        ["Replace", replaceAction(array, drive, status.drives)],
        ["Rehearse", rehearseAction(array, drive)],
      ]
    : [["Remove", removeMemberAction(array, drive)]];
  return <ActionButtons actions={actions} of={drive} />;
}

export function SpareActions({ array }: { readonly array: ArrayStatus }) {
  if (array.spares.length === 0) return null;
  return (
    <ul class="spares">
      {array.spares.map((drive) => (
        <li key={drive}>
          spare {drive}
          <ActionButtons actions={[["Remove", removeMemberAction(array, drive)]]} of={drive} />
        </li>
      ))}
    </ul>
  );
}

interface ButtonsProps {
  readonly actions: readonly Labelled[];
  /** Of what, for who hears the buttons alone. */
  readonly of: string;
}

export function ActionButtons({ actions, of }: ButtonsProps) {
  const { act } = useScene();
  return (
    <div class="actions">
      {actions.map(([label, action]) => (
        <button
          key={label}
          type="button"
          aria-label={`${label}: ${of}`}
          onClick={() => act(action)}
        >
          {label}
        </button>
      ))}
    </div>
  );
}
