/** The members of an array: a row and a strip each. */
import type { ComponentChildren } from "preact";
import type { ArrayStatus, MemberStatus } from "../../array/statuses.ts";
import { useScene } from "../context.ts";
import { scrubOf, stripOf } from "../strips.ts";
import { Scroll } from "./scroll.tsx";
import { StripView } from "./strip.tsx";

interface Props {
  readonly array: ArrayStatus;
  /** With error counters and what can be done with each. */
  readonly actions?: (member: MemberStatus) => ComponentChildren;
}

export function Members({ array, actions }: Props) {
  const { status } = useScene();
  if (array.members.length === 0) return null;
  const scrub = scrubOf(array, status.jobs);
  const isWhole = actions !== undefined;
  return (
    <Scroll label={`Members of ${array.name}`}>
      <table>
        <thead>
          <tr>
            <th scope="col">role</th>
            <th scope="col">drive</th>
            <th scope="col">state</th>
            <th scope="col" class="wide">
              from begin to end
            </th>
            {isWhole && <ErrorHeads />}
            {isWhole && <th scope="col">what to do</th>}
          </tr>
        </thead>
        <tbody>
          {array.members.map((member) => (
            <tr key={member.role}>
              <td class="number">{member.role}</td>
              <th scope="row">{member.drive ?? "–"}</th>
              <td class={`state ${member.state}`}>{stateWords(member)}</td>
              <td class="wide">
                <StripView
                  strip={stripOf(array, member, scrub)}
                  label={`role ${member.role}, ${member.drive ?? "no drive"}`}
                />
              </td>
              {isWhole && <ErrorCells errors={member.errors} />}
              {isWhole && <td>{actions(member)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function stateWords({ state, replacement, suspect, isAvoided }: MemberStatus): string {
  const parts: string[] = [state];
  if (replacement !== undefined) parts.push(`being replaced by ${replacement.drive}`);
  if (suspect !== undefined) parts.push("suspect");
  if (isAvoided === true) parts.push("not read from");
  return parts.join(", ");
}

const ERRORS = ["read", "write", "fixed", "slow"] as const;

function ErrorHeads() {
  return (
    <>
      {ERRORS.map((kind) => (
        <th key={kind} scope="col" class="number">
          {kind}
        </th>
      ))}
    </>
  );
}

function ErrorCells({ errors }: { readonly errors: MemberStatus["errors"] }) {
  return (
    <>
      {ERRORS.map((kind) => (
        <td key={kind} class={errors[kind] > 0 ? "number some" : "number"}>
          {errors[kind]}
        </td>
      ))}
    </>
  );
}
