/** Columns of text: words to the left, numbers to the right, no trailing blanks. */
import { printable } from "../base/printable.ts";

export function renderTable(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string[] {
  const isNumeric = header.map((_title, column) =>
    rows.every((row) => typeof row[column] === "number"),
  );
  const all = [header, ...rows.map((row) => row.map((cell) => printable(String(cell))))];
  const widths = header.map((_title, column) =>
    Math.max(...all.map((row) => (row[column] ?? "").length)),
  );
  return all.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return rows.length > 0 && isNumeric[column] === true
          ? cell.padStart(width)
          : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd(),
  );
}
