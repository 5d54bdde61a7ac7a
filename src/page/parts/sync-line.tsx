/** The work under way on an array, or the scrub that rests. */
import type { ArrayStatus } from "../../array/statuses.ts";
import { ProgressView } from "./progress.tsx";

export function SyncLine({ array: { name, sync, pausedScrub } }: { readonly array: ArrayStatus }) {
  if (sync.action !== "idle") {
    const { doneBytes: done, totalBytes: total, rateBytesPerSecond, etaSeconds } = sync;
    return (
      <div class="sync">
        <span>{sync.action}</span>
        <ProgressView
          label={`${sync.action} of ${name}`}
          progress={{ done, total, rateBytesPerSecond, etaSeconds }}
        />
        <a href="#/jobs">all jobs</a>
      </div>
    );
  }
  if (pausedScrub === null) return null;
  const { mode, doneBytes: done, totalBytes: total, asideReason } = pausedScrub;
  return (
    <div class="sync">
      <span>{asideReason === null ? `${mode} paused` : `${mode} set aside: ${asideReason}`}</span>
      <ProgressView
        label={`paused ${mode} of ${name}`}
        progress={{ done, total, rateBytesPerSecond: 0, etaSeconds: null }}
      />
      <a href="#/jobs">all jobs</a>
    </div>
  );
}
