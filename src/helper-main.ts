/**
 * The helper worker: the composition root of the calls that can block.
 *
 * It takes one call at a time from its parent and answers it. Fds belong to the process, so what is
 * opened here is used by the reactor and closed here again.
 */
import { parentPort } from "node:worker_threads";
import type {
  HelperCall,
  HelperEnvelope,
  HelperReply,
  HelperResult,
} from "./appliance/helper-protocol.ts";
import { closeAll, openDrive, punchHole } from "./appliance/linux-drive.ts";
import { assert, unreachable } from "./base/assert.ts";
import { ok } from "./base/result.ts";

function answer(call: HelperCall): HelperResult {
  switch (call.kind) {
    case "open":
      return openDrive(call.open, call.inUse);
    case "close":
      closeAll(call.fds);
      return ok(null);
    case "punch-hole":
      return punchHole(call);
    default:
      return unreachable(call);
  }
}

const port = parentPort;
assert(port !== null, "the helper runs as a worker");
port.on("message", ({ id, call }: HelperEnvelope) => {
  port.postMessage({ id, result: answer(call) } satisfies HelperReply);
});
