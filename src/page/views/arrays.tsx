/** Every array with its members as they sit. */
import type { ArrayStatus } from "../../array/statuses.ts";
import { formatBytes } from "../../base/units.ts";
import { useScene } from "../context.ts";
import { Findings } from "../parts/findings.tsx";
import { Members } from "../parts/members.tsx";
import { StateBadge } from "../parts/state-badge.tsx";
import { StripLegend } from "../parts/strip.tsx";
import { SyncLine } from "../parts/sync-line.tsx";
import { arrayHref } from "../route.ts";

export function ArraysView() {
  const { status } = useScene();
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Arrays</h1>
        <a class="button" href="#/create">
          Create an array
        </a>
      </div>
      {status.arrays.length === 0 && <p>There is no array yet.</p>}
      {status.arrays.map((array) => (
        <ArrayCard key={array.uuid} array={array} />
      ))}
      {status.arrays.length > 0 && <StripLegend />}
    </>
  );
}

function ArrayCard({ array }: { readonly array: ArrayStatus }) {
  const { status } = useScene();
  const judgement = status.judgements.find(({ arrayUuid }) => arrayUuid === array.uuid);
  return (
    <section class="card" aria-labelledby={`array-${array.uuid}`}>
      <div class="title">
        <h2 id={`array-${array.uuid}`}>
          <a href={arrayHref(array.name)}>{array.name}</a>
        </h2>
        <StateBadge state={array.state} health={judgement?.health ?? "fine"} />
        <span class="facts">
          {formatBytes(array.sizeBytes)}, {array.members.length} members, {array.consistencyPolicy}
        </span>
      </div>
      <Findings findings={judgement?.findings ?? []} />
      <SyncLine array={array} />
      <Members array={array} />
    </section>
  );
}
