/**
 * Which iocbs signal the eventfd, and what of them is with the kernel.
 *
 * The signal costs the kernel more than many a small read. Where all that went to it has been
 * complete for a while as soon as io_submit returned (files on tmpfs, RAM disks), transfers go
 * without. One that does not complete at once then is met by short waits of the loop, and ends
 * that. A flush always signals and says nothing about transfers: a thread of the kernel does it.
 */

/** So many io_submits in a row were through when they returned: the next one will be too. */
const PROMPT_SUBMITS = 64;

const Kind = { signalled: 0, unsignalled: 1, flush: 2 } as const;

export class AioSignals {
  /** iocbs with the kernel. */
  inKernel = 0;
  /** Of those, the transfers whose completion signals nothing, and the flushes. */
  private unsignalled = 0;
  private flushes = 0;
  private promptSubmits = 0;
  private readonly kind: Uint8Array;

  constructor(slotCount: number) {
    this.kind = new Uint8Array(slotCount);
  }

  /** Whether a transfer that is built now has to signal. */
  get isNeeded(): boolean {
    return this.promptSubmits < PROMPT_SUBMITS;
  }

  /** True while a completion may come that nothing tells of. */
  get isWaitBlind(): boolean {
    return this.unsignalled > 0;
  }

  built(slot: number, isFlush: boolean): void {
    this.kind[slot] = isFlush ? Kind.flush : this.isNeeded ? Kind.signalled : Kind.unsignalled;
  }

  taken(slot: number): void {
    this.count(slot, 1);
  }

  finished(slot: number): void {
    this.count(slot, -1);
  }

  /** io_submit has returned; `eventCount` completions are there. */
  judge(eventCount: number): void {
    const transfers = this.inKernel - this.flushes;
    if (transfers === 0) return;
    if (eventCount < transfers) this.promptSubmits = 0;
    else if (this.isNeeded) this.promptSubmits += 1;
  }

  private count(slot: number, change: 1 | -1): void {
    this.inKernel += change;
    const kind = this.kind[slot];
    if (kind === Kind.unsignalled) this.unsignalled += change;
    else if (kind === Kind.flush) this.flushes += change;
  }
}
