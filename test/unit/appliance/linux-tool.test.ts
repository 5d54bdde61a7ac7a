/**
 * Goal: whatever a program of the host does, its answer is there at the deadline, what it has
 * started is gone, and a drive costs one process at most. Method: real scripts that do it.
 */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ProcessTools,
  type ToolRequest,
  toolFolders,
} from "../../../src/appliance/host/linux-tool.ts";
import { writeTool } from "../../helpers/fake-tools.ts";
import { makeTempDir } from "../../helpers/temp.ts";
import { TEST_LIMIT_MS } from "../../helpers/test-limit.ts";
import { until } from "../../helpers/until.ts";

const folder = makeTempDir("tools");
const SHORT_MS = 200;
/** Far more than anything here takes. */
const LONG_MS = 20_000;

function request(more: Partial<ToolRequest>): ToolRequest {
  const limits = { deadlineMs: TEST_LIMIT_MS, outputBytesMax: 1_000 };
  return { program: "tool", words: [], key: "sda", ...limits, ...more };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function pidIn(path: string): Promise<number> {
  await until("the script has begun", () => existsSync(path) && readFileSync(path).length > 0);
  return Number(readFileSync(path, "utf8"));
}

test("tool: it ends: what it printed, its exit code, the first line of its complaint", async () => {
  writeTool(folder, "plain", 'echo "$1 $LC_ALL $HOME"; echo one >&2; echo two >&2; exit 4');
  const tools = new ProcessTools(folder);
  const answer = await tools.run(request({ program: "plain", words: ["a b"] }));
  expect(answer).toEqual({ kind: "exited", exitCode: 4, stdout: "a b C \n", complaint: "one" });
});

test("tool: none of that name, one that is no program: said, and nothing is thrown", async () => {
  const tools = new ProcessTools(folder);
  expect(await tools.run(request({ program: "nowhere" }))).toEqual({ kind: "absent" });
  const path = writeTool(folder, "broken", "");
  await Bun.write(path, "#!/nowhere/interpreter\n");
  expect(await tools.run(request({ program: "broken" }))).toMatchObject({ kind: "failed" });
});

test("tool: it hangs: late at the deadline, and it is gone with its children", async () => {
  const pidFile = join(folder, "child");
  writeTool(folder, "hangs", `sleep 1000 & echo $! > ${pidFile}; echo half; wait`);
  const tools = new ProcessTools(folder);
  const running = tools.run(request({ program: "hangs", deadlineMs: SHORT_MS }));
  const pid = await pidIn(pidFile);
  expect(await Promise.race([running, Bun.sleep(LONG_MS)])).toEqual({ kind: "late" });
  await until("its child is gone", () => !isAlive(pid));
});

test("tool: it has ended, and a child keeps its output open: late, and the child is gone", async () => {
  const pidFile = join(folder, "left");
  writeTool(folder, "leaves", `sleep 1000 & echo $! > ${pidFile}`);
  const tools = new ProcessTools(folder);
  const answer = await tools.run(request({ program: "leaves", deadlineMs: 2 * SHORT_MS }));
  expect(answer).toEqual({ kind: "late" });
  const pid = await pidIn(pidFile);
  await until("its child is gone", () => !isAlive(pid));
});

test("tool: it floods: told at the bound, and it is gone", async () => {
  const pidFile = join(folder, "flooder");
  writeTool(folder, "floods", `echo $$ > ${pidFile}; while :; do echo 0123456789; done`);
  const tools = new ProcessTools(folder);
  const flooding = request({ program: "floods", deadlineMs: LONG_MS });
  expect(await tools.run(flooding)).toEqual({ kind: "flooded" });
  const pid = await pidIn(pidFile);
  await until("it is gone", () => !isAlive(pid));
  writeTool(folder, "complains", "while :; do echo 0123456789 >&2; done");
  const noisy = request({ program: "complains", deadlineMs: SHORT_MS });
  expect(await tools.run(noisy)).toEqual({ kind: "late" });
});

test("tool: one that is still there: not started again for that drive; others are", async () => {
  writeTool(folder, "waits", "exec sleep 1000");
  writeTool(folder, "quick", "echo done");
  const tools = new ProcessTools(folder);
  const first = tools.run(request({ program: "waits" }));
  expect(await tools.run(request({ program: "quick" }))).toEqual({ kind: "stuck" });
  const other = await tools.run(request({ program: "quick", key: "sdb" }));
  expect(other).toMatchObject({ kind: "exited", stdout: "done\n" });
  tools.stop();
  expect(await first).toMatchObject({ kind: "exited", exitCode: null });
  expect(await tools.run(request({ program: "quick" }))).toMatchObject({ kind: "exited" });
});

test("tool: where it is looked for: whole folders of PATH, then the usual ones", () => {
  expect(toolFolders("/opt/bin::relative:.:/x").split(":").slice(0, 3)).toEqual([
    ...["/opt/bin", "/x", "/usr/local/sbin"],
  ]);
  expect(toolFolders(undefined)).toStartWith("/usr/local/sbin:");
});
