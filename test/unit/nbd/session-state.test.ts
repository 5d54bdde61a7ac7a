/**
 * Goal: the table of a connection's life has no way around its rules.
 * Method: all pairs of phase and event are enumerated and checked against what each rule says.
 */
import { expect, test } from "bun:test";
import {
  hasSocket,
  isNegotiating,
  isReading,
  nextPhase,
  type Phase,
  type SessionEvent,
  TRANSITIONS,
} from "../../../src/nbd/session-state.ts";

const PHASES = Object.keys(TRANSITIONS) as Phase[];
const EVENTS: SessionEvent[] = [
  "accepted",
  "adopted",
  "flags-read",
  "option-announced",
  "option-refused",
  "option-answered",
  "export-opened",
  "write-accepted",
  "write-refused",
  "payload-ended",
  "finish",
  "close",
  "released",
];

const EXPECTED: readonly string[] = [
  "free accepted client-flags",
  "free adopted option",
  "client-flags flags-read option",
  "option option-announced option-data",
  "option option-refused option-skip",
  "option-data option-answered option",
  "option-data export-opened request",
  "option-skip option-answered option",
  "request write-accepted payload",
  "request write-refused payload-skip",
  "payload payload-ended request",
  "payload-skip payload-ended request",
  "closed released free",
];

test("session state: all pairs of phase and event: those listed, and the two ways to end", () => {
  const expected = [...EXPECTED];
  for (const phase of PHASES) {
    if (isReading(phase)) expected.push(`${phase} finish draining`);
    if (hasSocket(phase)) expected.push(`${phase} close closed`);
  }
  const found: string[] = [];
  for (const phase of PHASES) {
    for (const event of EVENTS) {
      const next = nextPhase(phase, event);
      if (next !== null) found.push(`${phase} ${event} ${next}`);
    }
  }
  expect(found.sort()).toEqual(expected.sort());
});

test("session state: the predicates: each names its phases", () => {
  const negotiating = ["client-flags", "option", "option-data", "option-skip"];
  const reading = [...negotiating, "request", "payload", "payload-skip"];
  expect(PHASES.filter(isNegotiating)).toEqual(negotiating as Phase[]);
  expect(PHASES.filter(isReading)).toEqual(reading as Phase[]);
  expect(PHASES.filter(hasSocket)).toEqual([...reading, "draining"] as Phase[]);
});
