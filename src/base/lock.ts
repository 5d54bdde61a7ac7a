/** A lock for work that awaits: one at a time, in the order of asking. */
export class Lock {
  private last: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all that asked before has ended, however it ended. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work, work);
    this.last = result.then(
      () => {},
      () => {},
    );
    return result;
  }
}
