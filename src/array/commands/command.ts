/** Which commands the array service carries out. */
import type { CommandKind, CommandOf } from "../protocol.ts";

/** The commands that are about exports are carried out above this layer. */
export type ArrayCommandKind = Exclude<
  CommandKind,
  | "listen-nbd"
  | "adopt-nbd"
  | "nbd-stats"
  | "latencies"
  | "put-export"
  | "delete-export"
  | "list-exports"
  | "exports-settle"
>;
export type ArrayCommand = { [K in ArrayCommandKind]: CommandOf<K> }[ArrayCommandKind];
