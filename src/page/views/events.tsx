/** The events as they come, with a filter. */
import { useState } from "preact/hooks";
import type { Severity } from "../../array/protocol.ts";
import { useScene } from "../context.ts";
import { filterEvents } from "../events.ts";
import { EventTable } from "../parts/event-table.tsx";

export function EventsView() {
  const { events, status } = useScene();
  const [severity, setSeverity] = useState<Severity>("info");
  const [array, setArray] = useState("");
  const [text, setText] = useState("");
  const shown = filterEvents(events, { severity, array, text });
  const names = [...new Set([...status.arrays.map(({ name }) => name), array])];
  return (
    <>
      <h1 tabIndex={-1}>Events</h1>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <label class="field">
          <span>Weight</span>
          <select
            value={severity}
            onChange={(event) => setSeverity(event.currentTarget.value as Severity)}
          >
            <option value="info">all</option>
            <option value="warning">warning and critical</option>
            <option value="critical">critical</option>
          </select>
        </label>
        <label class="field">
          <span>Array</span>
          <select value={array} onChange={(event) => setArray(event.currentTarget.value)}>
            <option value="">all</option>
            {names
              .filter((name) => name !== "")
              .map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
          </select>
        </label>
        <label class="field">
          <span>Words</span>
          <input
            type="search"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <span role="status">
          {shown.length} of {events.length}
        </span>
      </form>
      <EventTable events={shown} label="Events" />
    </>
  );
}
