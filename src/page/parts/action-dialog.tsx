/**
 * The one way in which something is done: a dialog that says what it does, takes its values, shows
 * what would follow where the API can tell (a dry run), and wants a name typed where it destroys.
 */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type ActionSpec, firstValues, type Values } from "../action-spec.ts";
import type { Problem } from "../answer.ts";
import { Fields } from "./fields.tsx";

interface Props {
  readonly action: ActionSpec;
  readonly onClose: () => void;
  readonly onDone: (notice: string) => void;
}

export function ActionDialog({ action, onClose, onDone }: Props) {
  const { title, says, fields = [], typed, verb, foretell, run } = action;
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [values, setValues] = useState<Values>(() => firstValues(fields));
  const [typedText, setTyped] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [lines, setLines] = useState<readonly string[] | null>(null);
  useEffect(() => dialog.current?.showModal(), []);
  useEffect(() => {
    let isOld = false;
    setLines(null);
    void foretell?.(values).then((answer) => {
      if (isOld) return;
      setProblem(answer.ok ? null : answer.problem);
      if (answer.ok) setLines(answer.value);
    });
    return () => {
      isOld = true;
    };
  }, [foretell, values]);

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    const answer = await run(values);
    setBusy(false);
    if (!answer.ok) {
      setProblem(answer.problem);
      return;
    }
    dialog.current?.close();
    onDone(`${title}: ${endOf(answer.value)}`);
  };

  const isTyped = typed === undefined || typedText === typed;
  return (
    <dialog ref={dialog} aria-labelledby={`${id}-title`} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2 id={`${id}-title`} class="first">
          {title}
        </h2>
        <p>{says}</p>
        <Fields specs={fields} values={values} onChange={setValues} />
        {foretell !== undefined && (
          <div class="foretold" role="status">
            {lines === null ? (problem === null ? "Asking what would follow…" : "") : null}
            {lines?.map((line) => (
              <p key={line}>{line}</p>
            ))}
          </div>
        )}
        {typed !== undefined && (
          <label class="field">
            <span>
              Type <code>{typed}</code> to go on
            </span>
            <input
              value={typedText}
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          </label>
        )}
        {problem !== null && (
          <p class="problem" role="alert">
            {problem.detail}
          </p>
        )}
        <div class="buttons">
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
          <button
            type="submit"
            class={typed === undefined ? "main" : "main destructive"}
            disabled={!isTyped || isBusy}
          >
            {isBusy ? "Working…" : verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** Of long work only the begin is there to be told: "job 7 has begun". */
function endOf(value: unknown): string {
  const isJob = typeof value === "object" && value !== null && "id" in value && "kind" in value;
  return isJob ? `job ${value.id} has begun` : "done";
}
