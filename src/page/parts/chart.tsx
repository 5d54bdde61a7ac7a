/**
 * A small chart of two lines over the last five minutes, drawn by uPlot on a canvas; the same in
 * numbers stands beside it for whoever sees no canvas.
 */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { formatBytes } from "../../base/units.ts";
import type { Point } from "../rates.ts";

const SECONDS = 300;
const HEIGHT = 72;

export type ChartKind = "throughput" | "latency";

interface Props {
  readonly kind: ChartKind;
  /** Of whom: "tank", "drive0". */
  readonly of: string;
  readonly points: readonly Point[];
}

export function ChartView({ kind, of, points }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const parent = box.current;
    if (parent === null) return undefined;
    const chart = new uPlot(optionsOf(kind, parent), dataOf(kind, []), parent);
    plot.current = chart;
    const sized = new ResizeObserver(() => {
      chart.setSize({ width: parent.clientWidth, height: HEIGHT });
    });
    sized.observe(parent);
    // Colours are read while it draws: another theme is another drawing.
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = (): void => chart.redraw(false);
    theme.addEventListener("change", redraw);
    return () => {
      theme.removeEventListener("change", redraw);
      sized.disconnect();
      chart.destroy();
    };
  }, [kind]);
  const last = points.at(-1);
  useEffect(() => plot.current?.setData(dataOf(kind, points)), [kind, points.length, last?.at]);
  const words = last === undefined ? "no measurement yet" : wordsOf(kind, last);
  return (
    <figure class="chart">
      <figcaption>
        <span>{kind}</span> {words}
      </figcaption>
      <div ref={box} role="img" aria-label={`${kind} of ${of}, five minutes; now ${words}`} />
    </figure>
  );
}

function dataOf(kind: ChartKind, points: readonly Point[]): uPlot.AlignedData {
  const x = points.map(({ at }) => at);
  return kind === "throughput"
    ? [x, points.map(({ read }) => read), points.map(({ write }) => write)]
    : [x, points.map(({ readMs }) => readMs), points.map(({ writeMs }) => writeMs)];
}

function wordsOf(kind: ChartKind, { read, write, readMs, writeMs }: Point): string {
  return kind === "throughput"
    ? `read ${formatRate(read)}, write ${formatRate(write)}`
    : `read ${formatMs(readMs)}, write ${formatMs(writeMs)}`;
}

function formatRate(bytes: number): string {
  return `${formatBytes(Math.round(bytes))}/s`;
}

function formatMs(milliseconds: number | null): string {
  return milliseconds === null ? "–" : `${milliseconds.toFixed(2)} ms`;
}

function optionsOf(kind: ChartKind, parent: HTMLElement): uPlot.Options {
  const colour = (name: string) => () => getComputedStyle(parent).getPropertyValue(name);
  const tick = (value: number): string =>
    kind === "throughput" ? formatBytes(Math.round(value)) : `${value} ms`;
  return {
    width: parent.clientWidth || 300,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [6, 4, 4, 0],
    scales: {
      x: { time: true, range: (_chart, _from, to) => [to - SECONDS, to] },
      y: { range: (_chart, _from, to) => [0, Math.max(to * 1.1, kind === "latency" ? 1 : 1024)] },
    },
    axes: [
      { show: false },
      {
        size: 64,
        space: 28,
        stroke: colour("--muted"),
        grid: { stroke: colour("--line"), width: 1 },
        ticks: { show: false },
        font: "11px system-ui, sans-serif",
        values: (_chart, values) => values.map(tick),
      },
    ],
    series: [
      {},
      { stroke: colour("--read"), width: 1.5, points: { show: false } },
      { stroke: colour("--write"), width: 1.5, dash: [4, 2], points: { show: false } },
    ],
  };
}
