/**
 * The helper worker: the composition root of the calls that can block.
 *
 * It takes one call at a time from its parent and answers it. Fds belong to the process, so what is
 * opened here is used by the reactor and closed by whichever helper is told to.
 */
import { parentPort } from "node:worker_threads";
import { connectNbd, disconnectNbd } from "./appliance/attach/linux-nbd-kernel.ts";
import type {
  HelperCall,
  HelperEnvelope,
  HelperReply,
  HelperResult,
} from "./appliance/helper/helper-protocol.ts";
import {
  allocate,
  closeAll,
  contentOf,
  identifyDrive,
  openDrive,
  punchHole,
  roomOf,
} from "./appliance/helper/linux-drive.ts";
import {
  diskTrouble,
  listBlockDevices,
  listFilesIn,
  lookAt,
} from "./appliance/helper/linux-look.ts";
import { reservationOf } from "./appliance/helper/linux-reservation.ts";
import { assert, unreachable } from "./base/assert.ts";
import { ok } from "./base/result.ts";
import { tellDefects } from "./reactor/linux-defect.ts";

function answer(call: HelperCall): HelperResult {
  switch (call.kind) {
    case "identify":
      // A daemon that overwrites its own executable is not even able to say so.
      return identifyDrive(call.path, [process.execPath, ...call.protectedPaths]);
    case "open":
      return openDrive(call.open, call.identities);
    case "close":
      closeAll(call.fds);
      return ok(null);
    case "punch-hole":
      return punchHole(call);
    case "allocate":
      return allocate(call);
    case "list-folder":
      return listFilesIn(call.folder, call.limit);
    case "list-block-devices":
      return listBlockDevices(call.inUse, call.limit);
    case "look":
      return lookAt(call);
    case "content":
      return contentOf(call.fd, call.blockBytes);
    case "room":
      return roomOf(call.fd);
    case "reservation":
      return reservationOf(call.path);
    case "disk-trouble":
      return diskTrouble(call.disk);
    case "connect-nbd":
      return connectNbd(call);
    case "disconnect-nbd":
      return disconnectNbd(call);
    default:
      return unreachable(call);
  }
}

const port = parentPort;
assert(port !== null, "the helper runs as a worker");
const defect = tellDefects((met) => port.postMessage(met));
port.on("message", ({ id, call }: HelperEnvelope) => {
  try {
    port.postMessage({ id, result: answer(call) } satisfies HelperReply);
  } catch (error) {
    defect(error);
  }
});
