/** The exports as one client may see them: what negotiation asks (handshake.ts). */
import type { NbdCaller } from "../array/protocol.ts";
import type { ExportTable, NbdExport } from "./exports.ts";
import type { Catalog, ExportObstacle, ExportOffer } from "./handshake.ts";

const FORBIDDEN: ExportObstacle = {
  isPassing: false,
  isForbidden: true,
  reason: "this export is for other addresses or certificates",
};

export class ExportCatalog implements Catalog {
  isStopping = false;
  readonly maxRequestBytes: number;
  private readonly table: ExportTable;
  private readonly obstacleOf: (array: string) => ExportObstacle;

  constructor(options: {
    table: ExportTable;
    maxRequestBytes: number;
    obstacleOf: (array: string) => ExportObstacle;
  }) {
    this.table = options.table;
    this.maxRequestBytes = options.maxRequestBytes;
    this.obstacleOf = options.obstacleOf;
  }

  names(caller: NbdCaller | null): Uint8Array[] {
    const isOpen = ({ attachment, array, access }: NbdExport): boolean =>
      access.admits(caller) && (attachment !== null || this.obstacleOf(array).isPassing);
    return [...this.table.all()].filter(isOpen).map(({ nameBytes }) => nameBytes);
  }

  find(name: Uint8Array, caller: NbdCaller | null): ExportOffer | undefined {
    const entry = this.table.resolve(name);
    return entry?.access.admits(caller) === true ? this.table.offerOf(entry) : undefined;
  }

  obstacle(name: Uint8Array, caller: NbdCaller | null): ExportObstacle | null {
    const entry = this.table.resolve(name);
    if (entry === undefined) return null;
    return entry.access.admits(caller) ? this.obstacleOf(entry.array) : FORBIDDEN;
  }
}
