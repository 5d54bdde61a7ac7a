/**
 * Goal: `events --follow` goes on behind a restart of the daemon with the event after the last one
 * that it has shown, says what it waits for, and never ends as a defect.
 * Method: the verb over the real API of daemons that are taken away from it, as the kernel does it:
 * streams that are reset, and nobody who answers.
 */
import { expect, test } from "bun:test";
import type { CliHost } from "../../../src/cli/host.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { until } from "../../helpers/until.ts";

/** A daemon that can be away; its streams are reset when it goes. */
async function goingDaemon() {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const asked: string[] = [];
  const printed: string[] = [];
  const warned: string[] = [];
  const state = { isAway: false, reset: (): void => {} };
  const send: CliHost["send"] = async (_socketPath, { method, path, headers }) => {
    asked.push(path);
    if (state.isAway) throw Object.assign(new Error("no socket"), { code: "FailedToOpenSocket" });
    const { body } = await daemon.call(method, path, undefined, { ...headers });
    const reader = body!.getReader();
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        let isReset = false;
        state.reset = () => {
          isReset = true;
          controller.error(new TypeError("ECONNRESET"));
        };
        const pump = async (): Promise<void> => {
          for (;;) {
            const { done, value } = await reader.read();
            if (done || isReset) return;
            controller.enqueue(value);
          }
        };
        void pump();
      },
      cancel: () => reader.cancel(),
    });
    return new Response(stream);
  };
  const overrides = {
    send,
    print: (line: string) => void printed.push(line),
    warn: (line: string) => void warned.push(line),
  };
  const go = (): void => {
    state.isAway = true;
    state.reset();
  };
  const comeBack = (): void => {
    state.isAway = false;
  };
  return { daemon, asked, printed, warned, overrides, go, comeBack };
}

test("events --follow: the daemon is restarted: goes on behind the last event, once each", async () => {
  const { daemon, asked, printed, warned, overrides, go, comeBack } = await goingDaemon();
  const { lastId } = daemon.appliance.events;
  const line = `events --follow --since ${lastId - 1} --timeout 4`;
  const following = runCli(line, { daemon, overrides });
  await until("the event is shown", () => printed.length >= 1);
  go();
  await until("it is asked for again", () => asked.length >= 2);
  daemon.reactor.emit("scrub.finished", { message: "meanwhile" });
  comeBack();
  await until("the next one is shown", () => printed.length >= 2);
  expect(printed[1]).toContain("raid_test: meanwhile");
  expect(asked[1]).toBe(`/v1/events?since=${lastId}`);
  expect(warned).toEqual([
    "parityd: the daemon has ended the stream: waiting for it to be back",
    "parityd: the daemon is back",
  ]);
  expect((await following).exitCode).toBe(0);
  expect(printed).toHaveLength(2);
});

test("events --follow --timeout: a daemon that is not back by then: 69", async () => {
  const { daemon, printed, warned, overrides, go } = await goingDaemon();
  const following = runCli("events --follow --timeout 1", { daemon, overrides });
  await until("events are shown", () => printed.length > 0);
  go();
  expect((await following).exitCode).toBe(69);
  expect(warned.at(-1)).toBe("parityd: the daemon has ended the stream, and is not back");
});

test("events --follow: no daemon to begin with, or one that refuses: at once", async () => {
  expect((await runCli("events --follow")).exitCode).toBe(69);
  const send = async () => Response.json({ detail: "no such thing" }, { status: 404 });
  const refused = await runCli("events --follow", { overrides: { send } });
  expect(refused).toMatchObject({ exitCode: 1, stderr: "parityd: no such thing" });
});
