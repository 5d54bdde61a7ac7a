/**
 * A change that others wait for. Whoever waits is woken at each change and looks again: a signal
 * carries nothing, the state that it is about stands where it always stood.
 *
 * Whoever changes that state raises the signal after it. A wait that nobody ends is a wait for
 * ever: that is what a frozen array is meant to do (array/array-guard.ts).
 */
export class Signal {
  private waiters: (() => void)[] = [];

  /** Resolves at the next change. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  /** Resolves as soon as `holds`, which is looked at now and after each change. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.wait();
  }

  raise(): void {
    if (this.waiters.length === 0) return;
    const woken = this.waiters;
    this.waiters = [];
    for (const wake of woken) wake();
  }
}
