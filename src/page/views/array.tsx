/** One array: members, work, throughput and latency, and what can be done with it. */
import type { ArrayStatus, MemberStatus } from "../../array/statuses.ts";
import { formatBytes } from "../../base/units.ts";
import { ArrayActions, MemberActions, SpareActions } from "../actions/array-actions.tsx";
import { useScene } from "../context.ts";
import { ChartView } from "../parts/chart.tsx";
import { EventTable } from "../parts/event-table.tsx";
import { Findings } from "../parts/findings.tsx";
import { Members } from "../parts/members.tsx";
import { StateBadge } from "../parts/state-badge.tsx";
import { StripLegend } from "../parts/strip.tsx";
import { SyncLine } from "../parts/sync-line.tsx";
import { arrayKey, memberKey } from "../rates.ts";

const EVENTS_SHOWN = 10;

export function ArrayView({ name }: { readonly name: string }) {
  const { status, events } = useScene();
  const array = status.arrays.find((one) => one.name === name || one.uuid === name);
  if (array === undefined) {
    return (
      <>
        <h1 tabIndex={-1}>{name}</h1>
        <p>
          There is no such array. <a href="#/arrays">All arrays</a>
        </p>
      </>
    );
  }
  const judgement = status.judgements.find(({ arrayUuid }) => arrayUuid === array.uuid);
  const own = events.filter((event) => event.array === array.name).slice(0, EVENTS_SHOWN);
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>{array.name}</h1>
        <StateBadge state={array.state} health={judgement?.health ?? "fine"} />
      </div>
      <Findings findings={judgement?.findings ?? []} />
      {judgement?.notes.map((note) => (
        <p key={note} class="note">
          note: {note}
        </p>
      ))}
      <ArrayActions array={array} />
      <SyncLine array={array} />
      <Members
        array={array}
        actions={(member) => <MemberActions array={array} member={member} />}
      />
      <StripLegend />
      <SpareActions array={array} />
      <Facts array={array} />
      <h2>Throughput and latency</h2>
      <Charts array={array} />
      <h2>Last events</h2>
      <EventTable events={own} label={`Last events of ${array.name}`} />
    </>
  );
}

function Facts({ array }: { readonly array: ArrayStatus }) {
  const { lastScrub } = array;
  const scrub =
    lastScrub === null
      ? "never"
      : `${lastScrub.mode}, ${lastScrub.finishedAt}, ${formatBytes(lastScrub.mismatchBytes)} ` +
        `mismatched, ${formatBytes(lastScrub.lostBytes)} lost`;
  const facts = [
    ["UUID", array.uuid],
    ["size", formatBytes(array.sizeBytes)],
    ["chunk", formatBytes(array.chunkBytes)],
    ["layout", array.layout],
    ["policy", array.consistencyPolicy],
    ["last scrub", scrub],
  ];
  return (
    <dl class="facts">
      {facts.map(([key, value]) => (
        <div key={key}>
          <dt>{key}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Charts({ array }: { readonly array: ArrayStatus }) {
  return (
    <div class="charts">
      <ChartRow name="all members" of={array.name} seriesKey={arrayKey(array.uuid)} />
      {array.members.map((member: MemberStatus) => (
        <ChartRow
          key={member.role}
          name={`${member.role}: ${member.drive ?? "–"}`}
          of={member.drive ?? `role ${member.role}`}
          seriesKey={memberKey(array.uuid, member.role)}
        />
      ))}
    </div>
  );
}

interface RowProps {
  readonly name: string;
  readonly of: string;
  readonly seriesKey: string;
}

function ChartRow({ name, of, seriesKey }: RowProps) {
  const { history } = useScene();
  const points = history.pointsOf(seriesKey);
  return (
    <div class="chart-row">
      <h3>{name}</h3>
      <ChartView kind="throughput" of={of} points={points} />
      <ChartView kind="latency" of={of} points={points} />
    </div>
  );
}
