/** What scrolls by itself where the screen is narrow, also by keys. */
import type { ComponentChildren } from "preact";

interface Props {
  readonly label: string;
  readonly children: ComponentChildren;
}

export function Scroll({ label, children }: Props) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: keys scroll what has the focus.
    <section class="scroll" aria-label={label} tabIndex={0}>
      {children}
    </section>
  );
}
