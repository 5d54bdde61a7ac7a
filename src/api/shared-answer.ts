/**
 * One answer for all who ask in the same moment, for a call that many pages make each second.
 *
 *   ask ──► under way? ──no──► begun at once
 *                └─yes──► the next one, begun when this one has ended and rested: all who asked
 *                         meanwhile have it in common
 *
 * Nobody is answered by what was begun before they asked: who has changed something sees it. After
 * each it rests RESTS times as long as that took, so that it never takes more than one part in
 * 1 + RESTS of the thread, however many ask. Who asks alone never waits.
 */

import { type Alarms, sleep } from "../appliance/state/alarms.ts";

const RESTS = 4;
const REST_MS_MAX = 500;

export class SharedAnswer<T> {
  private readonly make: () => Promise<T>;
  private readonly alarms: Alarms;
  private underWay: Promise<unknown> = Promise.resolve();
  private next: Promise<T> | null = null;
  private restedMs = 0;

  constructor(make: () => Promise<T>, alarms: Alarms) {
    this.make = make;
    this.alarms = alarms;
  }

  ask(): Promise<T> {
    this.next ??= this.begin();
    return this.next;
  }

  private async begin(): Promise<T> {
    await this.underWay;
    const leftMs = this.restedMs - this.alarms.nowMs();
    if (leftMs > 0) await sleep(this.alarms, leftMs);
    // From here on who asks is not in time for this one.
    this.next = null;
    const beganMs = this.alarms.nowMs();
    const made = this.make();
    this.underWay = made.then(
      () => this.rest(beganMs),
      () => this.rest(beganMs),
    );
    return made;
  }

  private rest(beganMs: number): void {
    const endedMs = this.alarms.nowMs();
    this.restedMs = endedMs + Math.min(RESTS * (endedMs - beganMs), REST_MS_MAX);
  }
}
