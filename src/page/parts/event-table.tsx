/** Events, the newest first. */
import type { PageEvent } from "../events.ts";
import { Scroll } from "./scroll.tsx";

interface Props {
  readonly events: readonly PageEvent[];
  readonly label: string;
}

export function EventTable({ events, label }: Props) {
  if (events.length === 0) return <p>No event.</p>;
  return (
    <Scroll label={label}>
      <table class="events">
        <thead>
          <tr>
            <th scope="col">when</th>
            <th scope="col">weight</th>
            <th scope="col">what</th>
            <th scope="col">array</th>
            <th scope="col" class="wide">
              message
            </th>
          </tr>
        </thead>
        <tbody>
          {events.map(({ id, at, severity, kind, array, message }) => (
            <tr key={id} class={severity}>
              <td>
                <time dateTime={at}>{at.replace("T", " ").replace(/\.\d+Z$/, "Z")}</time>
              </td>
              <td>{severity}</td>
              <td>{kind}</td>
              <td>{array}</td>
              <td class="wide">{message}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}
