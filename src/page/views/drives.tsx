/** The drives that parityd was told about, and those that arrays share as spares. */
import type { DriveStatus } from "../../array/statuses.ts";
import { formatBytes } from "../../base/units.ts";
import { ActionButtons, type Labelled } from "../actions/array-actions.tsx";
import {
  addDriveAction,
  removeDriveAction,
  shareAction,
  withdrawSpareAction,
} from "../actions/host-specs.ts";
import { useScene } from "../context.ts";
import { Table } from "../parts/table.tsx";

export function DrivesView() {
  const { status } = useScene();
  const spareOf = (drive: DriveStatus) => status.spares.find((spare) => spare.drive === drive.name);
  const actionsOf = (drive: DriveStatus): Labelled[] => {
    const spare = spareOf(drive);
    const sharing: Labelled[] =
      spare !== undefined
        ? [["Withdraw", withdrawSpareAction(spare)]]
        : drive.state === "available"
          ? [["Share as spare", shareAction(drive)]]
          : [];
    return [...sharing, ["Remove", removeDriveAction(drive)]];
  };
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Drives</h1>
        <ActionButtons actions={[["Add a drive", addDriveAction()]]} of="new" />
      </div>
      <Table
        label="Drives"
        heads={["drive", "state", "size", "of", "path", "model", "detail", "what to do"]}
        rows={status.drives.map((drive) => ({
          key: drive.name,
          cells: [
            drive.name,
            spareOf(drive) === undefined ? drive.state : `${drive.state}, shared spare`,
            formatBytes(drive.sizeBytes),
            drive.member === undefined ? "" : `${drive.member.array}, role ${drive.member.role}`,
            drive.byId ?? drive.path,
            [drive.model, drive.serial].filter((word) => word != null).join(" "),
            drive.detail ?? "",
            <ActionButtons key="actions" actions={actionsOf(drive)} of={drive.name} />,
          ],
        }))}
      />
    </>
  );
}
