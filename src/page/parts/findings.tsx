/** The lines that `parityd status` prints: what is wrong, and what to do. */
import type { Finding } from "../../appliance/findings.ts";

export function Findings({ findings }: { readonly findings: readonly Finding[] }) {
  if (findings.length === 0) return null;
  return (
    <dl class="findings">
      {findings.map(({ status, action }) => (
        <div key={status}>
          <dt>status:</dt>
          <dd>{status}</dd>
          <dt>action:</dt>
          <dd class="action">{action}</dd>
        </div>
      ))}
    </dl>
  );
}
