/** One member as it sits: a strip from the begin of its data to its end. */
import { type Strip, stripWords } from "../strips.ts";

const WIDTH = 1_000;
const HEIGHT = 20;
/** Marks of one kind have a height of their own: they are told apart without colours too. */
const MARK_PLACES = {
  mismatch: { y: 10, height: 10 },
  bad: { y: 0, height: 10 },
  lost: { y: 0, height: 20 },
} as const;

export function StripView({ strip, label }: { readonly strip: Strip; readonly label: string }) {
  return (
    <svg
      class="strip"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`${label}: ${stripWords(strip)}`}
    >
      {strip.areas.map(({ kind, from, to }) => (
        <rect
          key={`${kind}${from}`}
          class={`area ${kind}`}
          x={from * WIDTH}
          width={(to - from) * WIDTH}
          y={0}
          height={HEIGHT}
        />
      ))}
      {strip.marks.map(({ kind, from, to }) => (
        <rect
          key={`${kind}${from}`}
          class={`mark ${kind}`}
          x={from * WIDTH}
          width={(to - from) * WIDTH}
          y={MARK_PLACES[kind].y}
          height={MARK_PLACES[kind].height}
        />
      ))}
    </svg>
  );
}

const LEGEND = [
  ["area in-sync", "in sync"],
  ["area rebuilt", "rebuilt or copied"],
  ["area checked", "read by the work under way"],
  ["area pending", "not in sync yet"],
  ["area absent", "missing"],
  ["mark bad", "bad sectors (above)"],
  ["mark mismatch", "parity mismatch (below)"],
  ["mark lost", "lost sectors"],
] as const;

export function StripLegend() {
  return (
    <ul class="legend">
      {LEGEND.map(([name, words]) => (
        <li key={name}>
          <svg viewBox="0 0 12 12" aria-hidden="true">
            <rect class={name} width={12} height={12} />
          </svg>
          {words}
        </li>
      ))}
    </ul>
  );
}
