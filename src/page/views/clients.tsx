/** The exports, who is connected to them, and what was answered. */
import { counted } from "../../base/counted.ts";
import { ActionButtons } from "../actions/array-actions.tsx";
import { withdrawExportAction } from "../actions/host-specs.ts";
import { useScene } from "../context.ts";
import { Table } from "../parts/table.tsx";

export function ClientsView() {
  const { status } = useScene();
  const { exports, nbd } = status;
  return (
    <>
      <h1 tabIndex={-1}>Clients</h1>
      <p>{counted(nbd.connections, "client is", "clients are")} connected.</p>
      <Table
        label="Exports"
        heads={["export", "array", "serves", "clients", "address", "what to do"]}
        rows={exports.map((one) => ({
          key: one.name,
          cells: [
            one.name,
            one.array,
            one.isServed ? (one.readOnly ? "read-only" : "yes") : "waits for its array",
            one.connections,
            one.uris.join(" "),
            <ActionButtons
              key="actions"
              actions={[["Withdraw", withdrawExportAction(one)]]}
              of={one.name}
            />,
          ],
        }))}
      />
      <h2>Requests answered</h2>
      <Table
        label="Requests answered"
        heads={["export", "request", "answer", "times"]}
        rows={nbd.answers.map(({ export: name, op, error, count }) => ({
          key: `${name} ${op} ${error}`,
          cells: [name, op, error === "none" ? "done" : error, count],
        }))}
      />
    </>
  );
}
