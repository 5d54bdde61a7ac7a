/**
 * Goal: the kernel lab is set up exactly where it is there, is not ready, and may be.
 * Method: every combination of these on a pretended host, with a set-up that works or does not.
 */
import { expect, test } from "bun:test";
import { type LabHost, prepareLab } from "../../setup.ts";

interface Facts {
  readonly hasLab: boolean;
  readonly canInstall: boolean;
  readonly isReadyBefore: boolean;
  readonly isSetUpGood: boolean;
}

function prepare({ hasLab, canInstall, isReadyBefore, isSetUpGood }: Facts) {
  let isReady = isReadyBefore;
  let setUps = 0;
  const said: string[] = [];
  const host: LabHost = {
    hasLab,
    canInstall,
    isReady: () => isReady,
    setUp: () => {
      setUps += 1;
      isReady = isSetUpGood;
    },
    say: (line) => said.push(line),
  };
  return { ...prepareLab(host), setUps, saidLines: said.length };
}

function combinations(): Facts[] {
  return Array.from({ length: 16 }, (_, bits) => ({
    hasLab: (bits & 1) !== 0,
    canInstall: (bits & 2) !== 0,
    isReadyBefore: (bits & 4) !== 0,
    isSetUpGood: (bits & 8) !== 0,
  }));
}

test("set-up: the kernel lab: once, where it is there and not ready, and only if it may", () => {
  for (const facts of combinations()) {
    const { hasLab, canInstall, isReadyBefore, isSetUpGood } = facts;
    const isWanted = hasLab && !isReadyBefore;
    const isRun = isWanted && canInstall;
    const isUnready = isWanted && !(isRun && isSetUpGood);
    const { setUps, saidLines, ...result } = prepare(facts);
    expect({ facts, setUps, ...result }).toEqual({ facts, setUps: isRun ? 1 : 0, isUnready });
    expect(saidLines > 0).toBe(isWanted);
  }
});
