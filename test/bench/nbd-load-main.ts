/**
 * The load generator of the NBD rows: a client of one server, on one thread.
 *
 * It takes commands from stdin (generator-protocol.ts) and knows from one to the next what the
 * export holds. Each command has connections of its own and ends with nothing under way.
 */
import { Arena } from "../../ffi/arena.ts";
import { libc } from "../../ffi/libc.ts";
import { assert } from "../../src/base/assert.ts";
import { KIB, ROW_BYTES } from "../../src/base/units.ts";
import { answerCommands } from "./generator-main.ts";
import type { NbdCommands } from "./generator-protocol.ts";
import { closeLink, type NbdLink, openLink } from "./nbd-link.ts";
import { type NbdContent, NbdLoad, type NbdResult, type NbdWorkload } from "./nbd-load.ts";

const SCHED_SETAFFINITY = process.arch === "arm64" ? 122 : 203;
const CPU_SET_BYTES = 128;
const WHOLE = { isRandom: false, blockBytes: 64 * KIB, connections: 1, depth: 16 } as const;

let uri = "";
let content: NbdContent = { generations: new Uint32Array(0), generation: 0 };

/** This thread alone: what compiles for it may run elsewhere. */
function stayOn(cpu: number): void {
  const set = new Arena(CPU_SET_BYTES);
  set.bytes[cpu >> 3] = 1 << (cpu & 7);
  const answer = libc.syscall(SCHED_SETAFFINITY, 0, CPU_SET_BYTES, set.baseAddress, 0, 0);
  assert(answer === 0, `CPU ${cpu} is there`);
}

async function openLinks(count: number): Promise<NbdLink[]> {
  const links: NbdLink[] = [];
  while (links.length < count) links.push(await openLink(uri));
  return links;
}

async function withLoad(
  workload: NbdWorkload,
  work: (load: NbdLoad) => NbdResult,
): Promise<NbdResult> {
  const load = new NbdLoad(await openLinks(workload.connections), workload, content);
  const result = work(load);
  load.close();
  return result;
}

await answerCommands<NbdCommands>({
  open: async (request) => {
    uri = request.uri;
    if (request.cpu !== null) stayOn(request.cpu);
    const { fd, sizeBytes } = await openLink(uri);
    closeLink(fd);
    const generations = new Uint32Array(Math.ceil(sizeBytes / ROW_BYTES));
    // Not that of another generator: what it left must not pass.
    content = { generations, generation: crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1 };
    return { sizeBytes };
  },
  fill: () => withLoad({ ...WHOLE, kind: "write" }, (load) => load.once()),
  check: () => withLoad({ ...WHOLE, kind: "read" }, (load) => load.once()),
  run: ({ workload, limits }) => withLoad(workload, (load) => load.run(limits)),
  quit: () => null,
});
