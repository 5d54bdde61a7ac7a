/**
 * A page that is drawn again and again: over itself on a terminal, one below the other in a pipe,
 * with a line between them. Ends at a signal that stops, or when the time is up.
 */
import { Exit } from "./exit.ts";
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
      const step = course.next(signal, performance.now());
      if (step === "stop") end();
      // A daemon that hangs owes an answer still.
      else if (step === "leave") host.exit(Exit.ok);
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
    // Rates and progress are no events: they are asked for.
    await waited(everyMs, over);
    if (!isOver.value) await Promise.race([over, options.look()]);
  }
  if (isDrawn) host.draw(null);
}

/** Until then, or until it is over: then no timer is left that would keep the process. */
async function waited(forMs: number, over: Promise<void>): Promise<void> {
  const timer = { stop: (): void => {} };
  const time = new Promise<void>((resolve) => {
    const handle = setTimeout(resolve, forMs);
    timer.stop = () => clearTimeout(handle);
  });
  await Promise.race([over, time]);
  timer.stop();
}
