/**
 * Goal: the end of NBD over TLS waits for the clients that are here, and no longer: it is through
 * when the last one has gone, or when their time is up, and those that stay are cut off then.
 *
 * Method: the real listener on a free port, and clients that say nothing.
 */
import { expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { listenNbdTls, type NbdTlsListener } from "../../../src/appliance/nbd/nbd-tls.ts";
import { ReactorClient } from "../../../src/appliance/reactor-client.ts";
import { silentLog } from "../../../src/base/log.ts";
import { hostWithDisks, SimReactor } from "../../helpers/sim-reactor.ts";

async function listenWith(shutdownTimeoutMs: number): Promise<NbdTlsListener> {
  const listening = await listenNbdTls({
    address: { host: "127.0.0.1", port: 0 },
    // Nobody gets as far as a certificate.
    mode: "required",
    tls: { cert: "", key: "" },
    client: new ReactorClient({ channel: new SimReactor(hostWithDisks([])), log: silentLog }),
    log: silentLog,
    limits: { shutdownTimeoutMs },
  });
  if (!listening.ok) throw new Error(listening.error);
  return listening.value;
}

/** A client that has been greeted. */
async function clientOf({ addresses }: NbdTlsListener): Promise<Socket> {
  const [address] = addresses;
  if (address?.kind !== "tcp") throw new Error("it listens on TCP");
  const socket = connect(address.port, address.host);
  await once(socket, "data");
  return socket;
}

test("nbd-tls: close: through as soon as the last client has gone", async () => {
  const listener = await listenWith(600_000);
  const clients = [await clientOf(listener), await clientOf(listener)];
  listener.stopListening();
  let isThrough = false;
  const closed = listener.close().then(() => {
    isThrough = true;
  });
  clients[0]!.destroy();
  await Bun.sleep(50);
  expect(isThrough).toBe(false);
  clients[1]!.destroy();
  await closed;
  expect(isThrough).toBe(true);
});

test("nbd-tls: close: whoever is here when the time is up is cut off", async () => {
  const listener = await listenWith(50);
  const client = await clientOf(listener);
  const ended = once(client, "close");
  listener.stopListening();
  await listener.close();
  await ended;
});

test("nbd-tls: close: without a client it is through at once", async () => {
  const listener = await listenWith(600_000);
  listener.stopListening();
  await listener.close();
});
