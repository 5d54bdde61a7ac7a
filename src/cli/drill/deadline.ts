/** Waiting with a limit: a daemon that does not answer fails the drill instead of hanging it. */
import { err, ok, type Result } from "../../base/result.ts";

export async function within<T>(
  work: Promise<T>,
  { seconds, what }: { seconds: number; what: string },
): Promise<Result<T, string>> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<Result<T, string>>((resolve) => {
    timer = setTimeout(() => resolve(err(`${what}: no end after ${seconds} s`)), seconds * 1_000);
  });
  const result = await Promise.race([work.then((value) => ok(value)), late]);
  clearTimeout(timer);
  return result;
}
