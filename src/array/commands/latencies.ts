/** How long requests to members took, of all arrays that run. */
import { Op } from "../../reactor/io-table.ts";
import type { MemberLatency } from "../protocol.ts";
import type { Registry } from "../registry.ts";

const OPS = [
  ["read", Op.read],
  ["write", Op.write],
  ["flush", Op.flush],
] as const;

export function memberLatencies(registry: Registry): MemberLatency[] {
  return [...registry.arrays.values()].flatMap(({ name, running }) => {
    const { roster, geometry } = running?.core ?? { roster: null, geometry: null };
    if (roster === null) return [];
    return Array.from({ length: geometry.memberCount }, (_, role) => role).flatMap((role) => {
      const drive = roster.driveAt(role);
      if (drive === null) return [];
      return OPS.map(([op, code]) => {
        return { array: name, role, op, times: drive.stats.latency[code]!.read() };
      });
    });
  });
}
