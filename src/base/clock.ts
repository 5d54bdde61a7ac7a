/**
 * Time as the lower layers see it. Handed in, so that the simulator can own it.
 *
 * `nowMs` is monotonic and has a fraction; only differences mean anything. `wallMs` is Unix time
 * and may jump: it is for timestamps on disk and in events, never for deadlines.
 */
export interface Clock {
  nowMs(): number;
  wallMs(): number;
}
