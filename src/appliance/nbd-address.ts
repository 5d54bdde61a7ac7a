/**
 * Where NBD listens over TCP: from what a person writes to the numbers that sockets take.
 *
 *   127.0.0.1:10809  [::1]:10809   an address, of which each part may be left out:
 *   127.0.0.1  ::1  [::1]          the port is then NBD's own
 *   localhost:10809  backup-net    a name: all addresses that it has here
 *   *  *:10809                     every address of the host, IPv4 and IPv6
 *
 * Names are looked up here, on the control thread; the reactor gets numbers.
 */
import { lookup } from "node:dns/promises";
import { isIP, isIPv6 } from "node:net";
import type { CommandError, NbdAddress } from "../array/protocol.ts";
import { err, ok, type Result } from "../base/result.ts";
import { ADDRESS_ABSENT, ADDRESS_TAKEN } from "../nbd/listen-problem.ts";
import { portHolder } from "./port-holder.ts";

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** The port that IANA gave to NBD. */
export const NBD_PORT = 10_809;

const NAME = /^(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?$/;

export function parseNbdAddress(text: string): Result<HostAndPort, string> {
  if (isIPv6(text)) return ok({ host: text, port: NBD_PORT });
  const match = /^(?:\[([^\]]*)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  const [, literal, plain, digits] = match ?? [];
  const host = literal ?? plain ?? "";
  const port = digits === undefined ? NBD_PORT : Number(digits);
  const isHost =
    literal === undefined ? isIP(host) === 4 || host === "*" || NAME.test(host) : isIPv6(host);
  if (isHost && port <= 65_535) return ok({ host, port });
  return err(`"${text}" is not ADDR[:PORT] (127.0.0.1:10809, [::1]:10809, a host name, *)`);
}

/** Looks names up; handed in by tests. */
export type Resolve = (name: string) => Promise<readonly string[]>;

const resolveHere: Resolve = async (name) =>
  (await lookup(name, { all: true })).map(({ address }) => address);

async function addressesOf(host: string, resolve: Resolve): Promise<Result<string[], string>> {
  if (host === "*") return ok(["0.0.0.0", "::"]);
  if (isIP(host) !== 0) return ok([host]);
  try {
    const found = [...new Set(await resolve(host))];
    if (found.length > 0) return ok(found);
    return err(`the host name ${host} has no address`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    const meaning = code === "ENOTFOUND" ? "nobody knows it here" : "the resolver does not answer";
    return err(`cannot look up the host name ${host}: ${code}: ${meaning}`);
  }
}

/**
 * Listens on every address that `host` stands for, all with one port. Of several, those that this
 * host does not have (IPv6 may be off) are passed over as long as one is left.
 */
export async function listenEverywhere(
  { host, port }: HostAndPort,
  listen: (address: NbdAddress & { kind: "tcp" }) => Promise<Result<NbdAddress, CommandError>>,
  resolve: Resolve = resolveHere,
): Promise<Result<NbdAddress[], string>> {
  const addresses = await addressesOf(host, resolve);
  if (!addresses.ok) return addresses;
  const bound: NbdAddress[] = [];
  let chosenPort = port;
  let absent = "";
  for (const address of addresses.value) {
    const listening = await listen({ kind: "tcp", host: address, port: chosenPort });
    if (listening.ok) {
      bound.push(listening.value);
      if (listening.value.kind === "tcp") chosenPort = listening.value.port;
    } else if (listening.error.code === ADDRESS_ABSENT) absent = listening.error.detail;
    else return err(describe(listening.error, chosenPort));
  }
  return bound.length > 0 ? ok(bound) : err(absent);
}

function describe({ code, detail }: CommandError, port: number): string {
  const holder = code === ADDRESS_TAKEN ? portHolder(port) : null;
  return holder === null ? detail : `${detail}: it is ${holder}`;
}

/** Who a TCP client is, in the words of `SocketKernel.peerOf`. */
export function peerOfAddress(address: string | undefined): string {
  if (address === undefined) return "";
  const text = address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
  if (!isIPv6(text)) return text;
  const [head = "", tail] = text.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  // A dotted end takes the place of two groups.
  const rightCount = right.length + (right.at(-1)?.includes(".") === true ? 1 : 0);
  const zeros = tail === undefined ? 0 : 8 - left.length - rightCount;
  const groups = [...left, ...new Array<string>(zeros).fill("0"), ...right].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}
