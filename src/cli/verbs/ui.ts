/**
 * `parityd ui`: the page of the daemon on a port of this machine, for as long as this runs.
 *
 * It prints a link that is good once, and the next one when that was used (for another tab). With
 * --open a browser gets it from a file that nobody else may read: words of a command line are read
 * by every user of the machine.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenTcp } from "../../api/server.ts";
import { stderrLogger } from "../../appliance/host/logger.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { watchSignals } from "../signals.ts";
import { tell } from "../tell.ts";
import { UiGate } from "../ui-gate.ts";
import { RUN_DIR } from "./shared-options.ts";

const LOOPBACK = "127.0.0.1";
const SECRET_BYTES = 32;
const PORT_MAX = 65_535;

export const uiCommand: CommandSpec = {
  path: ["ui"],
  summary: "Show the page in a browser of this machine, until Ctrl-C",
  examples: ["parityd ui --open"],
  answers: ["parityd.page/1"],
  operands: [],
  options: {
    port: { type: "string", value: "N", help: "of 127.0.0.1 (any that is free)" },
    open: { type: "boolean", help: "open it in a browser (xdg-open)" },
    ...RUN_DIR,
  },
  run: ui,
};

async function ui(invocation: Invocation, host: CliHost): Promise<number> {
  const portText = invocation.text("port") ?? "0";
  const port = Number(portText);
  if (!/^\d+$/.test(portText) || port > PORT_MAX) {
    return usageFailure(host, `--port ${portText} is no port`);
  }
  const client = new DaemonClient(host, invocation);
  const alive = await client.get("/-/healthy");
  if (!alive.ok) return fail(host, alive.error);
  const tellLink = (line: string): void => {
    const value = { link: gate.link };
    tell(invocation, host, { schema: "parityd.page/1", value, lines: () => [line] });
  };
  const gate = new UiGate({
    send: (request) => host.send(client.socketPath, request),
    newSecret: () => randomBytes(SECRET_BYTES).toString("base64url"),
    onUsed: () => tellLink(`for another tab: ${gate.link}`),
  });
  const log = stderrLogger({ format: "logfmt", level: "info" });
  const { stop } = watchSignals(host, "stop", log);
  const listening = await listenTcp(gate, { host: LOOPBACK, port, log });
  if (!listening.ok) return fail(host, { exitCode: Exit.unavailable, message: listening.error });
  gate.opened(listening.value.port);
  tellLink(gate.link);
  const letter = invocation.isSet("open") ? openBrowser(host, gate.link) : null;
  await stop;
  await listening.value.close();
  if (letter !== null) rmSync(letter, { recursive: true, force: true });
  return Exit.ok;
}

/** The folder of the file that leads to the link; null where no browser can be opened. */
function openBrowser(host: CliHost, link: string): string | null {
  const folder = mkdtempSync(join(tmpdir(), "parityd-ui-")); // 0700
  const file = join(folder, "open.html");
  const html = `<!doctype html><meta http-equiv="refresh" content="0; url=${link}">\n`;
  writeFileSync(file, html, { mode: 0o600 });
  try {
    Bun.spawn(["xdg-open", file], { stdio: ["ignore", "ignore", "ignore"] }).unref();
    return folder;
  } catch {
    host.warn("no browser was opened (there is no xdg-open): use the link");
    rmSync(folder, { recursive: true, force: true });
    return null;
  }
}
