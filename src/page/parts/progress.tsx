/** How far work is: a bar, and the line that the command line prints. */
import { formatPercent, formatProgress, type Progress } from "../../base/quantity.ts";

interface Props {
  readonly label: string;
  readonly progress: Progress;
}

export function ProgressView({ label, progress }: Props) {
  return (
    <div class="progress">
      <progress aria-label={label} max={100} value={Number(formatPercent(progress))} />
      <span>{formatProgress(progress)}</span>
    </div>
  );
}
