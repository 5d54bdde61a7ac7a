/**
 * Which clients may open an export. Judged in the handshake, never per request: who is not allowed
 * any more is disconnected when that is said.
 *
 * | the client came           | it may open the export where                                      |
 * |---------------------------|-------------------------------------------------------------------|
 * | over a Unix socket        | always: the mode of the socket decides                            |
 * | over TCP                  | each list that there is has it: its address, and its certificate  |
 *
 * So a list of certificates lets nobody in whose certificate was not verified, and an empty list
 * nobody at all.
 */
import type { ExportAllow, NbdCaller } from "../array/protocol.ts";
import { type IpNetwork, isInNetwork, parseIpAddress, parseIpNetwork } from "../base/ip-network.ts";

export class ExportAccess {
  private readonly networks: readonly IpNetwork[] | null;
  private readonly certificates: ReadonlySet<string> | null;

  /** Null: everybody. A network that is none (state.db may hold anything) has no address in it. */
  constructor(allow: ExportAllow | null) {
    const { addresses, certificates } = allow ?? {};
    this.networks =
      addresses?.flatMap((text) => {
        const network = parseIpNetwork(text);
        return network.ok ? [network.value] : [];
      }) ?? null;
    this.certificates = certificates === undefined ? null : new Set(certificates);
  }

  /** Null: a client of a Unix socket. */
  admits(caller: NbdCaller | null): boolean {
    if (caller === null) return true;
    return this.hasAddress(caller.address) && this.hasCertificate(caller.certificates);
  }

  private hasAddress(text: string): boolean {
    if (this.networks === null) return true;
    const address = parseIpAddress(text);
    return address !== null && this.networks.some((network) => isInNetwork(address, network));
  }

  private hasCertificate(names: readonly string[]): boolean {
    const { certificates } = this;
    return certificates === null || names.some((name) => certificates.has(name));
  }
}
