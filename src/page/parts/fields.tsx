/** The fields of a form, by what they take. */

import { useId } from "preact/hooks";
import type { FieldSpec, Values } from "../action-spec.ts";

interface Props {
  readonly specs: readonly FieldSpec[];
  readonly values: Values;
  readonly onChange: (values: Values) => void;
}

export function Fields({ specs, values, onChange }: Props) {
  return (
    <>
      {specs.map((spec) => (
        <Field
          key={spec.name}
          spec={spec}
          value={values[spec.name] ?? ""}
          onValue={(value) => onChange({ ...values, [spec.name]: value })}
        />
      ))}
    </>
  );
}

interface FieldProps {
  readonly spec: FieldSpec;
  readonly value: string | boolean;
  readonly onValue: (value: string | boolean) => void;
}

function Field({ spec, value, onValue }: FieldProps) {
  const id = useId();
  return (
    <div class={spec.kind === "check" ? "field check" : "field"}>
      <label htmlFor={id}>{spec.label}</label>
      <Control id={id} spec={spec} value={value} onValue={onValue} />
      {spec.hint !== undefined && <small>{spec.hint}</small>}
    </div>
  );
}

function Control({ id, spec, value, onValue }: FieldProps & { readonly id: string }) {
  switch (spec.kind) {
    case "check":
      return (
        <input
          id={id}
          type="checkbox"
          checked={value === true}
          onChange={(event) => onValue(event.currentTarget.checked)}
        />
      );
    case "choice":
      return (
        <select
          id={id}
          value={String(value)}
          onChange={(event) => onValue(event.currentTarget.value)}
        >
          {spec.options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      );
    default:
      return (
        <input
          id={id}
          inputMode={spec.kind === "number" ? "numeric" : "text"}
          pattern={spec.kind === "number" ? "[0-9.]+" : undefined}
          value={String(value)}
          required={spec.isOptional !== true}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => onValue(event.currentTarget.value)}
        />
      );
  }
}
