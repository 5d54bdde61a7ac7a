/** Columns of text: words to the left, numbers to the right, no trailing blanks. */
import { printable } from "../base/printable.ts";

const GAP = 2;
/** No column is made narrower than this to fit. */
const CUT_WIDTH_MIN = 6;

/** `columns`: how wide a line may be; cells of words are cut ("…") where that takes it. */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  columns = Number.POSITIVE_INFINITY,
): string[] {
  const isNumeric = header.map(
    (_title, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"),
  );
  const all = [header, ...rows.map((row) => row.map((cell) => printable(String(cell))))];
  const natural = header.map((_title, column) =>
    Math.max(...all.map((row) => (row[column] ?? "").length)),
  );
  const widths = fitted(natural, { isNumeric, columns });
  return all.map((row) =>
    row
      .map((text, column) => {
        const width = widths[column] ?? 0;
        const cell = text.length > width ? `${text.slice(0, width - 1)}…` : text;
        return isNumeric[column] === true ? cell.padStart(width) : cell.padEnd(width);
      })
      .join(" ".repeat(GAP))
      .trimEnd(),
  );
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
