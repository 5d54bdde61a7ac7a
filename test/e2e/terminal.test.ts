/**
 * Goal: the executable on a real terminal of 80 columns, and in a pipe: no line is too long,
 * colours and a bar on the one, plain lines on the other, and a page that is watched gives the
 * terminal back.
 * Method: pseudo-terminals; the API answers from this process, over simulated drives.
 */
import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { binaryPath, runProgram } from "../helpers/daemon.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../helpers/sim-appliance.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const COLUMNS = 80;
/** To the first place of the terminal. */
const PAGE_BEGINS = "\u001b[H";
const LINE_BEGINS = "\r\u001b[2K";

const stops: (() => void)[] = [];
afterAll(() => {
  for (const stop of stops) stop();
});

/** An API on a socket; the answer is the run directory. */
function serveApi({ app }: SimAppliance, asked: string[] = []): string {
  const runDir = makeTempDir("terminal");
  const server = Bun.serve({
    unix: join(runDir, "api.sock"),
    fetch: (request) => {
      asked.push(request.url);
      return app.request(request.url.replace(/^http:\/\/[^/]*/, ""), request, UNIX);
    },
  });
  stops.push(() => void server.stop(true));
  return runDir;
}

const UNIX = { transport: "unix" } as const;

interface Session {
  readonly text: () => string;
  readonly exited: Promise<number>;
  readonly type: (keys: string) => void;
}

function onTerminal(words: readonly string[], environment: Record<string, string> = {}): Session {
  const decoder = new TextDecoder();
  let text = "";
  const child = Bun.spawn([binaryPath(), ...words], {
    env: { ...process.env, NO_COLOR: "", TERM: "xterm-256color", ...environment },
    terminal: {
      ...{ cols: COLUMNS, rows: 24 },
      data: (_terminal, data) => {
        text += decoder.decode(data, { stream: true });
      },
    },
  });
  stops.push(() => child.kill());
  return { text: () => text, exited: child.exited, type: (keys) => child.terminal!.write(keys) };
}

/** To its end: what stood on the terminal, line by line. */
async function shown(words: readonly string[], environment: Record<string, string> = {}) {
  const session = onTerminal(words, environment);
  const exitCode = await session.exited;
  // What the terminal still holds comes a moment later.
  let seen = -1;
  await until("all is read", () => {
    const isSame = seen === session.text().length && seen > 0;
    seen = session.text().length;
    return isSame;
  });
  return { exitCode, raw: session.text() };
}

function linesOf(raw: string): string[] {
  return raw.split(PAGE_BEGINS).flatMap((page) => Bun.stripANSI(page).split(/\r?\n|\r/));
}

async function degraded(): Promise<{ daemon: SimAppliance; at: readonly string[] }> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await daemon.call("POST", "/v1/arrays/raid_test/members/b/fail");
  return { daemon, at: ["--run-dir", serveApi(daemon)] };
}

test("terminal: 80 columns: no line is longer; colours, but none with NO_COLOR or in a pipe", async () => {
  const { daemon, at } = await degraded();
  await daemon.call("PUT", "/v1/exports/raid_test", { array: "raid_test" });
  await daemon.call("PUT", "/v1/spares/d", {});
  await daemon.call("PUT", "/v1/schedules/raid_test", { cron: "0 1 * * *" });
  const plain = ["job list", "spare list", "export list", "schedule show"];
  const coloured = ["status", "array show raid_test", "drive list", "array list", "events"];
  for (const verb of [...coloured, ...plain]) {
    const words = [...verb.split(" "), ...at];
    const on = await shown(words);
    expect([verb, on.exitCode]).toEqual([verb, 0]);
    for (const line of linesOf(on.raw)) {
      expect([verb, line, line.length <= COLUMNS]).toEqual([verb, line, true]);
    }
    expect([verb, on.raw.includes("\u001b[")]).toEqual([verb, coloured.includes(verb)]);
    for (const environment of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
      expect((await shown(words, environment)).raw).not.toContain("\u001b");
    }
    const piped = await runProgram([binaryPath(), ...words]);
    expect(piped.stdout).not.toContain("\u001b");
  }
  const help = await shown(["--help"]);
  for (const line of linesOf(help.raw)) expect(line.length).toBeLessThanOrEqual(COLUMNS);
});

test("terminal: a job: a bar drawn over itself in one line; in a pipe a line every 10 %", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const asked: string[] = [];
  const at = ["--run-dir", serveApi(daemon, asked)];
  const { world } = daemon.reactor;
  for (const isTerminal of [true, false]) {
    const limit = { limitBytesPerSecond: 2 ** 20 };
    const begun = await daemon.call("POST", "/v1/arrays/raid_test/scrub", limit);
    const { id } = (await begun.json()) as { id: number };
    const words = ["job", "wait", String(id), ...at];
    asked.length = 0;
    const session = isTerminal ? onTerminal(words) : null;
    const piped = isTerminal ? null : runProgram([binaryPath(), ...words]);
    while (world.job(id).done * 2 < world.job(id).total) world.simulation.runFor(5);
    if (session !== null) await until("the bar", () => session.text().includes("] "));
    // It has asked again: what the first answer said is printed.
    else await until("a second look", () => asked.length >= 2);
    world.waitJob(id);
    if (session !== null) {
      expect(await session.exited).toBe(0);
      await until("the end", () => session.text().includes("done"));
      const drawn = session.text().split(LINE_BEGINS);
      expect(drawn[1]).toMatch(/^check \[#+-+\] {2}\d+\.\d % .* left$/);
      for (const line of linesOf(session.text())) expect(line.length).toBeLessThan(COLUMNS);
    }
    if (piped !== null) {
      const { exitCode, stdout, stderr } = await piped;
      expect([exitCode, stdout.includes("done")]).toEqual([0, true]);
      expect(stderr).toMatch(/^check raid_test: 50\.\d % .*\n$/);
      for (const strange of ["\r", "\u001b"]) expect(stdout + stderr).not.toContain(strange);
    }
  }
});

test("terminal: status --watch: on the alternate screen, and Ctrl-C gives the terminal back: exit 0", async () => {
  const { daemon, at } = await degraded();
  // One that looks seldom ends as soon.
  const seldom = onTerminal(["status", "--watch", "3600", ...at]);
  await until("its page", () => seldom.text().includes("raid_test"));
  seldom.type("\u0003");
  expect(await seldom.exited).toBe(0);
  const session = onTerminal(["status", "--watch", "0.2", ...at]);
  await until("a page", () => session.text().includes("raid_test"));
  expect(session.text()).toStartWith("\u001b[?1049h\u001b[?25l\u001b[H");
  await daemon.call("POST", "/v1/arrays/raid_test/stop?force=true");
  await until("a page of now", () => Bun.stripANSI(session.text()).includes("state: inactive"));
  session.type("\u0003");
  expect(await session.exited).toBe(0);
  await until("the end", () => session.text().endsWith("\u001b[?25h\u001b[?1049l"));
  // Never blank in between: lines are drawn over lines.
  expect(session.text()).not.toContain("\u001b[2J");
  for (const line of linesOf(session.text())) expect(line.length).toBeLessThanOrEqual(COLUMNS);
});
