/** /v1/log and `parityd log`: the level as it is, changed, and refused where it is none. */
import { expect, test } from "bun:test";
import { Logger } from "../../../src/appliance/host/logger.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { startSimAppliance } from "../../helpers/sim-appliance.ts";

test("log: shown, changed, refused", async () => {
  const daemon = await startSimAppliance();
  const lines = async (line: string): Promise<[number, string]> => {
    const { exitCode, stdout, stderr } = await runCli(line, { daemon });
    return [exitCode, stdout + stderr];
  };
  expect(await lines("log")).toEqual([0, "level info, format logfmt"]);
  expect(await lines("log --level debug")).toEqual([0, "level debug, format logfmt"]);
  expect(await lines("log --json")).toEqual([
    0,
    '{"schema":"parityd.log/1","level":"debug","format":"logfmt"}',
  ]);
  expect(await lines("log --level loud")).toEqual([
    64,
    expect.stringContaining('"loud" is no level: error, warn, info, debug'),
  ]);
  expect((await daemon.call("PUT", "/v1/log", { level: "loud" })).status).toBe(422);
  expect(await lines("log")).toEqual([0, "level debug, format logfmt"]);
});

test("log: what the level leaves out is not written; the format stays", () => {
  const written: string[] = [];
  const logger = new Logger({
    ...{ format: "json", level: "warn", isUnderJournald: false },
    now: () => new Date(0),
    writeLine: (line) => written.push(JSON.parse(line).msg),
  });
  logger.write("info", "one");
  logger.configure({ ...logger.settings, level: "debug" });
  logger.write("debug", "two");
  logger.configure({ ...logger.settings, level: "error" });
  logger.write("warn", "three");
  expect(written).toEqual(["two"]);
});
