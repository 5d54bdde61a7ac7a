/**
 * Keeps requests of a load under way: each lane takes one step after the other until it may not go
 * on, is told to stop, or says that it has come to its end.
 */

export class Lanes {
  private readonly mayGoOn: () => boolean;
  private running: Promise<void>[] = [];
  private isStopping = false;

  constructor(mayGoOn: () => boolean = () => true) {
    this.mayGoOn = mayGoOn;
  }

  /** True until the lanes are to take no further step. */
  get isGoing(): boolean {
    return !this.isStopping && this.mayGoOn();
  }

  /** `count` lanes more. A step answers false where its lane is at its end. */
  start(count: number, step: () => Promise<boolean>): void {
    for (let lane = 0; lane < count; lane += 1) this.running.push(this.run(step));
  }

  /** No lane begins another step. */
  stop(): void {
    this.isStopping = true;
  }

  /** Resolves when no lane has a step under way. */
  async ended(): Promise<void> {
    await Promise.all(this.running);
    this.running = [];
  }

  private async run(step: () => Promise<boolean>): Promise<void> {
    while (this.isGoing && (await step()));
  }
}
