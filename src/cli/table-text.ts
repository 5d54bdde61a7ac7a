/** Columns of text: words to the left, numbers to the right, no trailing blanks. */
import { printable } from "../base/printable.ts";
import { wrapLine } from "./terminal-text.ts";

const GAP = 2;
/** No column is made narrower than this to fit. */
const CUT_WIDTH_MIN = 6;

/**
 * `columns`: how wide a line may be; cells of words are cut ("…") where that takes it. A sentence in
 * the last column goes on below itself: what it says at its end is what it is there for.
 */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  columns?: number,
): string[] {
  return renderRows(header, rows, columns).flat();
}

/** The same, with the lines of each row together; those of the header come first. */
export function renderRows(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  columns = Number.POSITIVE_INFINITY,
): string[][] {
  const isNumeric = header.map(
    (_title, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"),
  );
  const all = [header, ...rows.map((row) => row.map((cell) => printable(String(cell))))];
  const natural = header.map((_title, column) =>
    Math.max(...all.map((row) => (row[column] ?? "").length)),
  );
  const widths = fitted(natural, { isNumeric, columns });
  const lineOf = (row: readonly string[]): string =>
    row
      .map((text, column) => {
        const width = widths[column] ?? 0;
        const cell = text.length > width ? `${text.slice(0, width - 1)}…` : text;
        return isNumeric[column] === true ? cell.padStart(width) : cell.padEnd(width);
      })
      .join(" ".repeat(GAP))
      .trimEnd();
  const lastWidth = widths.at(-1) ?? 0;
  return all.map((row) => {
    const before = row.slice(0, -1);
    const pieces = wrapLine(row.at(-1) ?? "", lastWidth, "").split("\n");
    return pieces.map((piece, at) =>
      lineOf([...(at === 0 ? before : before.map(() => "")), piece]),
    );
  });
}

/** The widest columns of words give way first. */
function fitted(
  natural: readonly number[],
  { isNumeric, columns }: { isNumeric: readonly boolean[]; columns: number },
): number[] {
  const widths = [...natural];
  const total = (): number => widths.reduce((sum, width) => sum + width + GAP, -GAP);
  while (total() > columns) {
    const words = widths.map((width, column) => (isNumeric[column] === true ? 0 : width));
    const widest = Math.max(...words);
    if (widest <= CUT_WIDTH_MIN) break;
    widths[words.indexOf(widest)] = widest - 1;
  }
  return widths;
}
