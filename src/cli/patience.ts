/**
 * How long a client verb waits for the daemon: never for ever.
 *
 *   brief    what only reads: one deadline
 *   patient  what may take long: for as long as the daemon answers probes (/-/ready) meanwhile, of
 *            which each has the deadline of a brief call; what it waits for is said now and then
 *
 * A limit of the user (--timeout) holds for both.
 */
import type { CliHost } from "./host.ts";

export type Patience = "brief" | "patient";

export interface PatienceTimes {
  /** For the answer to what only reads, and between probes. */
  readonly answerMs: number;
  /** Probes in a row that may say that the daemon is there and not ready. */
  readonly notReadyMax: number;
}

export const DEFAULT_TIMES: PatienceTimes = { answerMs: 10_000, notReadyMax: 6 };

export interface Wait {
  /** Resolves with the seconds that have passed once it is time to give up. */
  readonly over: Promise<number>;
  /** There is an answer: nothing runs on. */
  end(): void;
}

export function beginWait(options: {
  readonly host: CliHost;
  readonly socketPath: string;
  readonly patience: Patience;
  readonly limitMs: number | null;
  readonly times: PatienceTimes;
  /** "POST /v1/arrays". */
  readonly what: string;
}): Wait {
  const { host, patience, times, what } = options;
  const begunMs = performance.now();
  const ending = new AbortController();
  let giveUp: () => void = () => {};
  const over = new Promise<number>((resolve) => {
    giveUp = () => resolve((performance.now() - begunMs) / 1_000);
  });
  const limitMs = options.limitMs ?? (patience === "brief" ? times.answerMs : null);
  const limit = limitMs === null ? undefined : setTimeout(giveUp, limitMs);
  let isProbing = false;
  let notReady = 0;
  let count = 0;

  async function probe(): Promise<void> {
    // The former probe has had as long as a brief call.
    if (isProbing) return giveUp();
    isProbing = true;
    count += 1;
    // At the first and at each power of two.
    if ((count & (count - 1)) === 0) {
      const seconds = Math.round((performance.now() - begunMs) / 1_000);
      host.warn(`parityd: ${seconds} s so far: the daemon is still at ${what}`);
    }
    const isReady = await host
      .send(options.socketPath, { method: "GET", path: "/-/ready", signal: ending.signal })
      .then(({ ok }) => ok)
      .catch(() => false);
    isProbing = false;
    notReady = isReady ? 0 : notReady + 1;
    if (notReady >= times.notReadyMax) giveUp();
  }

  const probes = patience === "brief" ? undefined : setInterval(() => void probe(), times.answerMs);
  const end = (): void => {
    clearTimeout(limit);
    clearInterval(probes);
    ending.abort();
  };
  return { over, end };
}
