/**
 * What runs in a reactor: the arrays, and the NBD server that exports them.
 *
 * The order of construction is the order of work in a turn: arrays first finish their requests,
 * then the server sends the replies.
 */
import type { ReactorContext, ReactorService } from "../array/context.ts";
import { FRONT_REQUESTS_MAX } from "../array/front.ts";
import type { Command, CommandError, CommandMap, CommandResult } from "../array/protocol.ts";
import { type ArrayCommand, ArrayService } from "../array/service.ts";
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import { DEFAULT_NBD_LIMITS } from "./limits.ts";
import { NbdServer } from "./server.ts";

export function createService(context: ReactorContext): ReactorService & { server: NbdServer } {
  const arrays = new ArrayService(context, {
    autoAssemble: context.config.autoAssemble ?? true,
  });
  const { loop, memory, carver, payloadPool, log } = context;
  const { maxConnections, maxRequestsPerConnection } = DEFAULT_NBD_LIMITS;
  // One client that does not take its replies leaves the others half of the pool.
  const maxPayloadBytesPerConnection = Math.min(
    DEFAULT_NBD_LIMITS.maxPayloadBytesPerConnection,
    payloadPool.totalBytes / 2,
  );
  assert(
    maxConnections * maxRequestsPerConnection <= FRONT_REQUESTS_MAX,
    "an array has room for all requests of all connections",
  );
  const server = new NbdServer({
    ...{ loop, memory, carver, payloadPool, log },
    limits: { maxPayloadBytesPerConnection },
  });
  arrays.registry.onRunningChanged = ({ name, running }) => {
    for (const entry of server.exports()) {
      if (entry.array !== name) continue;
      const front = running?.front ?? null;
      server.setExport({ name: entry.name, array: name, front, readOnly: entry.readOnly });
    }
  };

  function putExport(
    request: CommandMap["put-export"]["request"],
  ): Result<CommandMap["put-export"]["value"], CommandError> {
    const { name, array, readOnly } = request;
    if (!arrays.hasArray(array)) {
      const detail = `there is no array ${array}: create it, or connect its drives`;
      return err({ kind: "not-found", code: "unknown-array", detail });
    }
    const created = server.exports().every((entry) => entry.name !== name);
    const set = server.setExport({ name, array, front: arrays.frontOf(array), readOnly });
    return set.ok ? ok({ created, export: set.value }) : set;
  }

  async function handle(command: Command): Promise<CommandResult> {
    switch (command.kind) {
      case "listen-nbd": {
        const bound = server.listen(command.address, command.mode);
        return bound.ok ? ok({ address: bound.value }) : bound;
      }
      case "adopt-nbd": {
        const { fd, isSecure, isWithoutZeroes } = command;
        const adopted = server.adopt(fd, { isSecure, isWithoutZeroes });
        return adopted.ok ? ok(null) : adopted;
      }
      case "put-export":
        return putExport(command);
      case "delete-export": {
        const removed = server.removeExport(command.name, { force: command.force });
        return removed.ok ? ok(null) : removed;
      }
      case "list-exports":
        return ok(server.exports());
      case "nbd-stats":
        return ok(server.stats());
      case "shutdown":
        await server.shutdown();
        return arrays.handle(command);
      default:
        return arrays.handle(command as ArrayCommand);
    }
  }

  return { handle, server };
}
