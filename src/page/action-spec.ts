/** What can be done, as values: a dialog (parts/action-dialog.tsx) makes a form of it. Pure. */
import type { Answer } from "./answer.ts";

export type Values = Readonly<Record<string, string | boolean>>;

export type FieldSpec = {
  readonly name: string;
  readonly label: string;
  readonly hint?: string;
} & (
  | { readonly kind: "text" | "number"; readonly first?: string; readonly isOptional?: true }
  | { readonly kind: "check"; readonly first?: boolean }
  | { readonly kind: "choice"; readonly options: readonly Choice[]; readonly first?: string }
);

export interface Choice {
  readonly value: string;
  readonly label: string;
}

export interface ActionSpec {
  readonly title: string;
  /** What it does, in a sentence or two. */
  readonly says: string;
  readonly fields?: readonly FieldSpec[];
  /** What has to be typed for it: it destroys, or takes redundancy away. */
  readonly typed?: string;
  /** The word on the button. */
  readonly verb: string;
  /** What would follow, a line each. */
  readonly foretell?: (values: Values) => Promise<Answer<readonly string[]>>;
  readonly run: (values: Values) => Promise<Answer<unknown>>;
}

export function firstValues(specs: readonly FieldSpec[]): Values {
  const values: Record<string, string | boolean> = {};
  for (const spec of specs) {
    if (spec.kind === "check") values[spec.name] = spec.first ?? false;
    else if (spec.kind === "choice") values[spec.name] = spec.first ?? spec.options[0]?.value ?? "";
    else values[spec.name] = spec.first ?? "";
  }
  return values;
}

export function textOf(values: Values, name: string): string {
  const value = values[name];
  return typeof value === "string" ? value.trim() : "";
}

/** The number that was typed; null: none. */
export function numberOf(values: Values, name: string): number | null {
  const text = textOf(values, name);
  return text === "" ? null : Number(text);
}

export function isChecked(values: Values, name: string): boolean {
  return values[name] === true;
}
