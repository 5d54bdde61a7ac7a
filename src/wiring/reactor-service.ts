/**
 * What runs in a reactor: the arrays, and the NBD server that exports them.
 *
 * The order of construction is the order of work in a turn: arrays first finish their requests,
 * then the server sends the replies.
 */

import type { ArrayCommand } from "../array/commands/command.ts";
import { memberLatencies } from "../array/commands/latencies.ts";
import { ArrayService } from "../array/commands/service.ts";
import { FRONT_REQUESTS_MAX } from "../array/front.ts";
import type { Command, CommandError, CommandMap, CommandResult } from "../array/protocol.ts";
import type { ReactorContext, ReactorService } from "../array/reactor-context.ts";
import { assert } from "../base/assert.ts";
import { counted, wordFor } from "../base/counted.ts";
import { err, ok, type Result } from "../base/result.ts";
import { isUuid } from "../md/uuid.ts";
import type { ExportObstacle } from "../nbd/handshake.ts";
import { DEFAULT_NBD_LIMITS } from "../nbd/limits.ts";
import { NbdServer } from "../nbd/server.ts";

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
  let isStartOver = false;
  const server = new NbdServer({
    ...{ loop, memory, carver, payloadPool, log },
    limits: { maxPayloadBytesPerConnection },
    obstacleOf,
  });
  arrays.registry.onRunningChanged = ({ uuid, running }) => {
    server.serveArray(uuid, running?.front ?? null);
  };

  function putExport(
    request: CommandMap["put-export"]["request"],
  ): Result<CommandMap["put-export"]["value"], CommandError> {
    const { name, readOnly, allow = null, force = false } = request;
    const array = arrays.registry.find(request.array)?.uuid ?? request.array;
    // A name that nobody has is no identity: which array would it be that comes later?
    if (!isUuid(array)) {
      const detail = `there is no array ${array}: create it, or connect its drives`;
      return err({ kind: "not-found", code: "unknown-array", detail });
    }
    const created = server.exports().every((entry) => entry.name !== name);
    const settings = { name, array, front: arrays.frontOf(array), readOnly, allow, force };
    const isDry = request.dryRun === true;
    const set = isDry ? server.foretellExport(settings) : server.setExport(settings);
    return set.ok ? ok({ created, export: set.value }) : set;
  }

  /** Asked only for an array that has no front. */
  function obstacleOf(uuid: string): ExportObstacle {
    const record = arrays.registry.arrays.get(uuid);
    if (record === undefined) {
      return { isPassing: !isStartOver, reason: `array ${uuid} is not here` };
    }
    const { name, isHeld, reason } = record;
    const isChanging = arrays.registry.isBusy(record);
    // What an operator has stopped comes back only when asked.
    if (isHeld && !isChanging) return { isPassing: false, reason: `array ${name} is stopped` };
    const isPassing = isChanging || !isStartOver;
    return { isPassing, reason: `array ${name} does not run: ${reason || "it is starting"}` };
  }

  /** Each command may have ended a start or a stop that clients wait for. */
  async function handleForArrays(command: ArrayCommand): Promise<CommandResult> {
    const result = await arrays.handle(command);
    server.reviewWaits();
    return result;
  }

  /** Why an array must not be taken from under its clients; null where there are none. */
  function clientsOf(array: string): CommandError | null {
    const record = arrays.registry.find(array);
    const count = record === null ? 0 : server.table.connectionsOf(record.uuid);
    if (count === 0) return null;
    const used = server
      .exports()
      .filter((entry) => entry.array === record!.uuid && entry.connections > 0)
      .map(({ name }) => name);
    const detail =
      `${counted(count, "client is", "clients are")} connected to export ${used.join(", ")} of ` +
      `array ${record!.name}: disconnect ${wordFor(count, "it", "them")}, or say force=true`;
    return { kind: "conflict", code: "clients-connected", detail };
  }

  async function handle(command: Command): Promise<CommandResult> {
    switch (command.kind) {
      case "listen-nbd": {
        const bound = server.listen(command.address, command.mode);
        return bound.ok ? ok({ address: bound.value }) : bound;
      }
      case "adopt-nbd": {
        const { fd, ...greeted } = command;
        const adopted = server.adopt(fd, greeted);
        return adopted.ok ? ok(null) : adopted;
      }
      case "put-export":
        return putExport(command);
      case "delete-export": {
        const { name, force } = command;
        const removed =
          command.dryRun === true
            ? server.foretellRemoval(name, { force })
            : server.removeExport(name, { force });
        return removed.ok ? ok(null) : removed;
      }
      case "list-exports":
        return ok(server.exports());
      case "exports-settle":
        isStartOver = true;
        server.reviewWaits();
        return ok(null);
      case "nbd-stats":
        return ok(server.stats());
      case "latencies":
        return ok({
          members: memberLatencies(arrays.registry),
          exports: server.table.latencies(),
          turns: loop.turnTimes.read(),
          requestsToDrives: context.table.inUse,
        });
      case "stop-array":
      case "delete-array": {
        const obstacle = command.force === true ? null : clientsOf(command.array);
        return obstacle === null ? handleForArrays(command) : err(obstacle);
      }
      case "shutdown":
        await server.shutdown();
        return arrays.handle(command);
      default:
        return handleForArrays(command as ArrayCommand);
    }
  }

  return { handle, server };
}
