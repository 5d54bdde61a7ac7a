/**
 * Goal: each hole that the reactor asks for is punched once where it was asked for, and the reactor
 * gets exactly one answer, whatever came of it.
 * Method: the client over a channel that keeps what is posted, and an opener that answers at will.
 */
import { expect, test } from "bun:test";
import { type ReactorChannel, ReactorClient } from "../../../src/appliance/reactor-client.ts";
import type { CommandError, Envelope, ReactorMessage } from "../../../src/array/protocol.ts";
import { silentLog } from "../../../src/base/log.ts";
import { err, ok, type Result } from "../../../src/base/result.ts";

class Channel implements ReactorChannel {
  readonly posted: Envelope[] = [];
  deliver: (message: ReactorMessage) => void = () => {};

  post(envelope: Envelope): void {
    this.posted.push(envelope);
  }

  onMessage(listener: (message: ReactorMessage) => void): void {
    this.deliver = listener;
  }
}

const REQUEST = { kind: "punch-hole", id: 41, fd: 9, offset: 8192, bytes: 4096 } as const;

async function answerOf(result?: Result<null, CommandError>) {
  const channel = new Channel();
  const calls: unknown[] = [];
  const opener = {
    punchHole: async (fd: number, range: { offset: number; bytes: number }) => {
      calls.push([fd, range]);
      return result!;
    },
  };
  new ReactorClient({ channel, log: silentLog, ...(result === undefined ? {} : { opener }) });
  channel.deliver(REQUEST);
  await Bun.sleep(1);
  return { calls, commands: channel.posted.map(({ command }) => command) };
}

test("reactor client: a hole is asked for: punched there, and answered", async () => {
  const { calls, commands } = await answerOf(ok(null));
  expect(calls).toEqual([[9, { offset: 8192, bytes: 4096 }]]);
  expect(commands).toEqual([{ kind: "hole-punched", id: 41, error: null }]);
});

test("reactor client: the helper refuses: the reactor gets its error", async () => {
  const error = { kind: "io", code: "drive-timeout", detail: "no answer" } as const;
  const { commands } = await answerOf(err(error));
  expect(commands).toEqual([{ kind: "hole-punched", id: 41, error }]);
});

test("reactor client: nobody punches holes: unsupported", async () => {
  const { commands } = await answerOf();
  expect(commands).toMatchObject([
    { kind: "hole-punched", id: 41, error: { kind: "unsupported" } },
  ]);
});
