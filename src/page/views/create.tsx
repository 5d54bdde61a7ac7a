/**
 * A new array, step by step: its drives, its name and shape, then what it would be and what would
 * be written, as the API foretells it (a dry run at each change). The name is typed once more.
 */
import { useEffect, useState } from "preact/hooks";
import type { DriveStatus } from "../../array/statuses.ts";
import { formatBytes } from "../../base/units.ts";
import { ActionButtons } from "../actions/array-actions.tsx";
import { addDriveAction } from "../actions/host-specs.ts";
import type { Problem } from "../answer.ts";
import { call } from "../api.ts";
import { useScene } from "../context.ts";
import { bodyOf, type CreateForm, EMPTY_FORM, POLICIES, writesOf } from "../create-form.ts";
import { arrayHref } from "../route.ts";

const SETTLE_MS = 250;

type Plan =
  | { readonly kind: "none" }
  | { readonly kind: "size"; readonly sizeBytes: number }
  | { readonly kind: "refused"; readonly problem: Problem };

export function CreateView() {
  const { done } = useScene();
  const [form, setForm] = useState<CreateForm>(EMPTY_FORM);
  const [typed, setTyped] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<string | null>(null);
  const plan = usePlan(form);
  const change = (part: Partial<CreateForm>): void => setForm({ ...form, ...part });
  const create = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    const answer = await call("POST", "/v1/arrays", bodyOf(form));
    setBusy(false);
    setRefusal(answer.ok ? null : answer.problem.detail);
    if (!answer.ok) return;
    done(`array ${form.name} was created`);
    location.hash = arrayHref(form.name);
  };
  const isReady = plan.kind === "size" && form.name !== "" && typed === form.name;
  return (
    <form class="create" onSubmit={(event) => void create(event)}>
      <h1 tabIndex={-1}>Create an array</h1>
      <DriveSteps form={form} change={change} />
      <ShapeStep form={form} change={change} />
      <fieldset>
        <legend>3. What it will be, and what is written</legend>
        <PlanView form={form} plan={plan} change={change} />
        <label class="field">
          <span>Type the array's name to go on</span>
          <input
            value={typed}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </label>
        {refusal !== null && (
          <p class="problem" role="alert">
            {refusal}
          </p>
        )}
        <button type="submit" class="main destructive" disabled={!isReady || isBusy}>
          {isBusy ? "Working…" : "Create the array"}
        </button>
      </fieldset>
    </form>
  );
}

interface StepProps {
  readonly form: CreateForm;
  readonly change: (part: Partial<CreateForm>) => void;
}

function DriveSteps({ form, change }: StepProps) {
  const { status } = useScene();
  const free = status.drives.filter(({ state }) => state === "available" || state === "foreign");
  return (
    <fieldset>
      <legend>1. Its drives</legend>
      {free.length === 0 && <p>No drive is free.</p>}
      {free.map((drive) => (
        <DriveChoice key={drive.name} drive={drive} form={form} change={change} />
      ))}
      <ActionButtons actions={[["Add a drive", addDriveAction()]]} of="new" />
    </fieldset>
  );
}

function DriveChoice({ drive, form, change }: StepProps & { readonly drive: DriveStatus }) {
  const { name, sizeBytes, path, detail } = drive;
  const use = form.drives.includes(name) ? "member" : form.spares.includes(name) ? "spare" : "";
  const without = (names: readonly string[]): string[] => names.filter((one) => one !== name);
  const choose = (as: string): void =>
    change({
      drives: [...without(form.drives), ...(as === "member" ? [name] : [])],
      spares: [...without(form.spares), ...(as === "spare" ? [name] : [])],
    });
  return (
    <label class="field line">
      <span>
        {name}{" "}
        <small>
          {formatBytes(sizeBytes)}, {path}
          {detail === undefined ? "" : `; ${detail}`}
        </small>
      </span>
      <select value={use} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">not used</option>
        <option value="member">member</option>
        <option value="spare">spare</option>
      </select>
    </label>
  );
}

function ShapeStep({ form, change }: StepProps) {
  return (
    <fieldset>
      <legend>2. Its name and shape</legend>
      <label class="field">
        <span>Name</span>
        <input
          value={form.name}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => change({ name: event.currentTarget.value.trim() })}
        />
      </label>
      <label class="field">
        <span>Consistency policy</span>
        <select
          value={form.policy}
          onChange={(event) => change({ policy: event.currentTarget.value })}
        >
          {POLICIES.map(({ value, label }) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        <span>Chunk, KiB</span>
        <select
          value={String(form.chunkKiB)}
          onChange={(event) => change({ chunkKiB: Number(event.currentTarget.value) })}
        >
          {[4, 16, 64, 128, 256, 512, 1024].map((kib) => (
            <option key={kib} value={String(kib)}>
              {kib}
            </option>
          ))}
        </select>
      </label>
    </fieldset>
  );
}

function PlanView({ form, plan, change }: StepProps & { readonly plan: Plan }) {
  return (
    <div class="foretold" role="status">
      {plan.kind === "none" && <p>Choose three drives or more, and a name.</p>}
      {plan.kind === "refused" && <p class="problem">{plan.problem.detail}</p>}
      {plan.kind === "refused" && plan.problem.code === "drive-has-data" && (
        <label class="field check">
          <span>What these drives hold may be lost</span>
          <input
            type="checkbox"
            checked={form.force}
            onChange={(event) => change({ force: event.currentTarget.checked })}
          />
        </label>
      )}
      {plan.kind === "size" && (
        <>
          <p>
            Usable size: <strong>{formatBytes(plan.sizeBytes)}</strong>
          </p>
          <ul>
            {writesOf(form, plan.sizeBytes).map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

/** What the array would be, asked for when the form has come to rest. */
function usePlan(form: CreateForm): Plan {
  const [plan, setPlan] = useState<Plan>({ kind: "none" });
  useEffect(() => {
    if (form.drives.length < 3 || form.name === "") {
      setPlan({ kind: "none" });
      return undefined;
    }
    let isOld = false;
    const timer = setTimeout(async () => {
      const answer = await call<{ sizeBytes: number }>(
        "POST",
        "/v1/arrays?dryRun=true",
        bodyOf(form),
      );
      if (isOld) return;
      if (answer.ok) setPlan({ kind: "size", sizeBytes: answer.value.sizeBytes });
      else setPlan({ kind: "refused", problem: answer.problem });
    }, SETTLE_MS);
    return () => {
      isOld = true;
      clearTimeout(timer);
    };
  }, [form]);
  return plan;
}
