/**
 * A page that is drawn again and again: over itself on a terminal, one below the other in a pipe,
 * with a line between them. Ends at a signal that stops, or when the time is up.
 */
import type { CliHost } from "./host.ts";
import { SignalCourse } from "./signals.ts";

const BETWEEN = "-".repeat(72);

export async function watchPages(
  host: CliHost,
  options: {
    readonly everyMs: number;
    /** False: documents, a line each. */
    readonly isText: boolean;
    readonly timeIsUp: Promise<unknown>;
    readonly page: () => readonly string[];
    /** Brings what the page shows up to date. */
    readonly look: () => Promise<void>;
  },
): Promise<void> {
  const { everyMs, isText, page } = options;
  const course = new SignalCourse("stop");
  const isOver = { value: false };
  const over = new Promise<void>((resolve) => {
    const end = (): void => {
      isOver.value = true;
      resolve();
    };
    host.onSignal((signal) => {
      if (course.next(signal, performance.now()) === "stop") end();
    });
    void options.timeIsUp.then(end);
  });
  const isDrawn = isText && host.terminal !== null;
  for (let count = 0; !isOver.value; count += 1) {
    if (isDrawn) host.draw(page());
    else {
      if (isText && count > 0) host.print(BETWEEN);
      for (const line of page()) host.print(line);
    }
    // Polls: rates and progress are no events.
    await Promise.race([over, Bun.sleep(everyMs)]);
    if (!isOver.value) await Promise.race([over, options.look()]);
  }
  if (isDrawn) host.draw(null);
}
