/**
 * `parityd attach FILE...`: serves one array in the foreground, without any state.
 *
 * It writes as an assemble does: the dirty mark at the first write, clean at the end, a resync when
 * it was dirty. With --read-only the members are opened read-only and not one byte is written.
 */
import { resolve } from "node:path";
import { type Logger, stderrLogger } from "../../appliance/host/logger.ts";
import { ReactorClient } from "../../appliance/reactor-client.ts";
import type { StartedReactor } from "../../appliance/start-reactor.ts";
import { nbdUri } from "../../appliance/state/export-book.ts";
import type { ArrayStatus } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { inWordsOfFlags } from "../api-words.ts";
import { fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { watchSignals } from "../signals.ts";

const ATTACH_MEMORY_MIB = 256;
const NBD_SOCKET_MODE = 0o660;

export const attachCommand: CommandSpec = {
  path: ["attach"],
  summary: "Serve one array in the foreground, without a daemon or any state",
  examples: ["parityd attach m0.img m1.img m2.img --socket /tmp/tank.sock --read-only"],
  operands: [{ name: "FILE", many: true, names: "files" }],
  options: {
    socket: { type: "string", value: "PATH", names: "files", help: "the NBD socket to listen on" },
    name: { type: "string", value: "NAME", help: "export name (the array's own)" },
    "read-only": { type: "boolean", help: "write not one byte to any member" },
    force: { type: "boolean", help: "start also where that may show stale data: says when" },
    "no-direct": { type: "boolean", help: "without O_DIRECT: for file systems that refuse it" },
  },
  run: attach,
};

interface AttachOptions {
  readonly files: readonly string[];
  readonly socket: string;
  readonly exportName: string | undefined;
  readonly readOnly: boolean;
  readonly force: boolean;
  readonly direct: boolean;
}

async function attach(invocation: Invocation, host: CliHost): Promise<number> {
  const socket = invocation.text("socket");
  if (socket === undefined) return usageFailure(host, "--socket PATH is missing");
  const exportName = invocation.text("name");
  if (exportName !== undefined && !/^[a-zA-Z0-9._-]{1,64}$/.test(exportName)) {
    return usageFailure(host, "--name takes 1 to 64 letters, digits, dots, hyphens, underscores");
  }
  const options: AttachOptions = {
    files: invocation.operands.map((file) => resolve(file)),
    socket: resolve(socket),
    exportName,
    readOnly: invocation.isSet("read-only"),
    force: invocation.isSet("force"),
    direct: !invocation.isSet("no-direct"),
  };
  const log = stderrLogger({ format: "logfmt", level: "info" });
  const { stop } = watchSignals(host, "ignore", log);
  const started = await host.startReactor({
    memoryMib: ATTACH_MEMORY_MIB,
    firstJobId: 1,
    allowFaultInjection: false,
    autoAssemble: false,
  });
  if (!started.ok) return fail(host, { exitCode: Exit.unavailable, message: started.error });
  const client = new ReactorClient({ ...started.value, log });
  logEvents(client, log);
  const serving = await serveFiles(client, started.value, options);
  if (serving.ok) {
    host.print(`ready ${serving.value}`);
    await stop;
  }
  started.value.expectEnd();
  const ended = await client.call({ kind: "shutdown" });
  if (!serving.ok) return fail(host, { exitCode: Exit.failed, message: serving.error });
  if (!ended.ok) return fail(host, { exitCode: Exit.failed, message: ended.error.detail });
  return Exit.ok;
}

/** Attaches, assembles and exports; the answer is the URI. */
async function serveFiles(
  client: ReactorClient,
  { opener }: StartedReactor,
  options: AttachOptions,
): Promise<Result<string, string>> {
  const { readOnly, force, direct } = options;
  for (const path of options.files) {
    // Messages name a drive by its name: here that is its path.
    const opened = await opener.open({ name: path, path, direct, readOnly });
    if (!opened.ok) return err(about(path, opened.error.detail));
    const attached = await client.call({ kind: "attach-drive", drive: opened.value });
    if (!attached.ok) return err(about(path, attached.error.detail));
  }
  const array = await onlyArray(client);
  if (!array.ok) return array;
  const { name, uuid } = array.value;
  const assembled = await client.call({ kind: "start-array", array: uuid, force, readOnly });
  if (!assembled.ok) return err(assembled.error.detail);
  const address = { kind: "unix", path: options.socket } as const;
  const listening = await client.call({ kind: "listen-nbd", address, mode: NBD_SOCKET_MODE });
  if (!listening.ok) return err(listening.error.detail);
  const exportName = options.exportName ?? name;
  const offered = await client.call({
    kind: "put-export",
    name: exportName,
    array: uuid,
    readOnly,
  });
  if (!offered.ok) return err(offered.error.detail);
  // The array has started: nobody has to wait for another one.
  await client.call({ kind: "exports-settle" });
  return ok(nbdUri(address, exportName));
}

/** Some reasons name the path themselves. */
function about(path: string, detail: string): string {
  const said = inWordsOfFlags(detail);
  return said.includes(path) ? said : `${path}: ${said}`;
}

/** The one array that the files belong to, all of them: one that does not is not passed over. */
async function onlyArray(client: ReactorClient): Promise<Result<ArrayStatus, string>> {
  const arrays = await client.call({ kind: "list-arrays" });
  if (!arrays.ok) return err(arrays.error.detail);
  const drives = await client.call({ kind: "list-drives" });
  if (!drives.ok) return err(drives.error.detail);
  const [array, ...others] = arrays.value;
  const strangers = drives.value.filter(
    ({ state }) => state === "available" || state === "foreign",
  );
  const texts = strangers.map(({ path, detail }) => about(path, detail ?? NO_SUPERBLOCK));
  if (array === undefined) return err(`no file belongs to an array: ${texts.join("; ")}`);
  if (texts.length > 0) return err(texts.join("; "));
  if (others.length === 0) return ok(array);
  const listed = arrays.value.map(({ name }) => {
    const files = drives.value
      .filter(({ member }) => member?.array === name)
      .map(({ path }) => path);
    return `${name}: ${files.join(" ")}`;
  });
  return err(`the files belong to several arrays (${listed.join("; ")}): attach those of one`);
}

const NO_SUPERBLOCK = "it has no superblock of an array: leave it out";

function logEvents(client: ReactorClient, log: Logger): void {
  const levels = { critical: "error", warning: "warn", info: "info" } as const;
  client.onEvent(({ severity, kind, array, message }) =>
    log.write(levels[severity], message, { event: kind, array }),
  );
}
