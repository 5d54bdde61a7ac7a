/** Manual pages as man(7) has them: text that is no markup, and the few macros that are used. */

/** Plain text on one line: nothing in it is taken for markup. */
export function text(plain: string): string {
  const escaped = plain
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replaceAll("µ", "\\(mc");
  return escaped.startsWith(".") ? `\\&${escaped}` : escaped;
}

export function bold(plain: string): string {
  return `\\fB${text(plain)}\\fR`;
}

export function italic(plain: string): string {
  return `\\fI${text(plain)}\\fR`;
}

export interface Page {
  readonly name: string;
  readonly section: number;
  readonly version: string;
  readonly summary: string;
  readonly lines: readonly string[];
}

export function manualPage({ name, section, version, summary, lines }: Page): string {
  const title = text(name.toUpperCase());
  return [
    '.\\" Made from the program: do not edit.',
    `.TH ${title} ${section} "" "parityd ${text(version)}" "parityd"`,
    ".SH NAME",
    `${text(name)} \\- ${text(summary)}`,
    ...lines,
    "",
  ].join("\n");
}

export function heading(title: string): string {
  return `.SH ${title.includes(" ") ? `"${title}"` : title}`;
}

/** A word and what it means, set off. */
export function tagged(tag: string, meaning: string): string[] {
  return [".TP", tag, meaning];
}

/** Lines that stay as they are. */
export function literal(lines: readonly string[]): string[] {
  return [".PP", ".RS 4", ".nf", ...lines.map(text), ".fi", ".RE"];
}
