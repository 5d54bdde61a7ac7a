/**
 * No import goes round in a circle: neither from file to file nor from room to room of src/. Who
 * reads a circle has to know all of it at once, and nobody chose the order in which it begins.
 *
 *   a file    src/raid5/engine.ts
 *   a room    src/raid5/rows, with all that lies below it; a file that lies directly in a layer, or
 *             in src/, is a room of its own
 *
 * Imports of types count: they tie two files together for the reader just as well.
 */
import { posix } from "node:path";
import { blank, importsOf, isSource, type Violation } from "./source.ts";

/** Layers that have circles still. A layer whose last one is gone has to leave the list. */
export const KNOWN_CIRCLES: readonly string[] = [];

type Arrows = ReadonlyMap<string, ReadonlySet<string>>;

/** Every circle of the files and of the rooms, unless its layer is `known` to have some. */
export function checkCircles(
  sources: ReadonlyMap<string, string>,
  known: readonly string[] = KNOWN_CIRCLES,
): Violation[] {
  const files = arrowsOf(sources);
  const violations: Violation[] = [];
  const met = new Set<string>();
  for (const [kind, arrows] of [
    ["files", files],
    ["rooms", roomArrows(files)],
  ] as const) {
    for (const knot of knotsOf(arrows)) {
      const layers = new Set(knot.map(layerOf));
      for (const layer of layers) met.add(layer);
      if ([...layers].every((layer) => known.includes(layer))) continue;
      const path = knot[0]!;
      const message = `a circle of ${kind}: ${circleThrough(path, arrows).join(" -> ")}`;
      violations.push({ path, line: 0, message });
    }
  }
  for (const layer of known) {
    if (met.has(layer)) continue;
    const message = "has no circle any more: take it off KNOWN_CIRCLES";
    violations.push({ path: `src/${layer}`, line: 0, message });
  }
  return violations;
}

/** Who imports whom, among the given files of src/. */
function arrowsOf(sources: ReadonlyMap<string, string>): Map<string, Set<string>> {
  const arrows = new Map<string, Set<string>>();
  for (const [path, source] of sources) {
    if (!path.startsWith("src/") || !isSource(path)) continue;
    const targets = new Set<string>();
    for (const { specifier } of importsOf(blank(source))) {
      if (!specifier.startsWith(".")) continue;
      const target = posix.normalize(posix.join(posix.dirname(path), specifier));
      if (target.startsWith("src/")) targets.add(target);
    }
    arrows.set(path, targets);
  }
  return arrows;
}

function roomArrows(files: Arrows): Map<string, Set<string>> {
  const rooms = new Map<string, Set<string>>();
  for (const [path, targets] of files) {
    const from = roomOf(path);
    const reached = rooms.get(from) ?? new Set<string>();
    rooms.set(from, reached);
    for (const target of targets) if (roomOf(target) !== from) reached.add(roomOf(target));
  }
  return rooms;
}

function roomOf(path: string): string {
  const parts = path.split("/");
  return parts.length > 3 ? parts.slice(0, 3).join("/") : path;
}

function layerOf(path: string): string {
  return path.split("/")[1]!;
}

/**
 * The knots of a graph: each is a set of nodes that all reach each other, sorted. Two nodes reach
 * each other where either is among what the other one reaches.
 */
function knotsOf(arrows: Arrows): string[][] {
  const reached = new Map([...arrows.keys()].map((node) => [node, reachedFrom(node, arrows)]));
  const knots: string[][] = [];
  const seen = new Set<string>();
  for (const node of [...arrows.keys()].sort()) {
    if (seen.has(node) || !reached.get(node)!.has(node)) continue;
    const knot = [...reached.get(node)!].filter((other) => reached.get(other)?.has(node)).sort();
    for (const other of knot) seen.add(other);
    knots.push(knot);
  }
  return knots;
}

/** Itself only where it is in a circle. */
function reachedFrom(start: string, arrows: Arrows): Set<string> {
  const reached = new Set<string>();
  const waiting = [start];
  while (waiting.length > 0) {
    for (const next of arrows.get(waiting.pop()!) ?? []) {
      if (reached.has(next)) continue;
      reached.add(next);
      waiting.push(next);
    }
  }
  return reached;
}

/** A shortest way from a node in a knot back to itself, both ends named. */
function circleThrough(node: string, arrows: Arrows): string[] {
  const cameFrom = new Map<string, string>();
  const waiting = [node];
  while (!cameFrom.has(node) && waiting.length > 0) {
    const from = waiting.shift()!;
    for (const next of [...(arrows.get(from) ?? [])].sort()) {
      if (cameFrom.has(next)) continue;
      cameFrom.set(next, from);
      waiting.push(next);
    }
  }
  const circle = [node];
  for (let at = cameFrom.get(node)!; at !== node; at = cameFrom.get(at)!) circle.unshift(at);
  return [node, ...circle];
}
