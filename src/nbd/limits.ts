/**
 * What one client, and all clients together, may cost the server.
 *
 * Control memory per connection: the receive buffer, and REPLY_HEADER_BYTES_MAX for each request
 * that it may have under way. With the defaults 256 * (16 KiB + 128 * 32) = 5 MiB.
 */
import { KIB, MIB } from "../base/units.ts";

export interface NbdLimits {
  /**
   * For another one a connection that is silent in its handshake goes; without one it is closed.
   * Lowered to what the process has descriptors for, and the two below with it (admission.ts).
   */
  readonly maxConnections: number;
  /** Of one host, or of one process on this one. */
  readonly maxConnectionsPerPeer: number;
  /** Connections that are silent in their handshake. */
  readonly maxHandshakes: number;
  /** Requests under way per connection; at the limit the connection is not read. */
  readonly maxRequestsPerConnection: number;
  /**
   * Payload memory that one connection may hold; at the limit it is not read. A single request that
   * is larger is served all the same.
   */
  readonly maxPayloadBytesPerConnection: number;
  /**
   * Once others hold payload memory too, a connection may hold one part in so many of what is free
   * (0: all). So where several take all that they can get, some is left for the next one.
   */
  readonly freePayloadShare: number;
  /** The largest READ or WRITE. Lowered to what fits into the payload pool. */
  readonly maxRequestBytes: number;
  /** The payload of a WRITE that is too large is read and dropped up to this; above: disconnect. */
  readonly maxSkippedPayloadBytes: number;
  readonly receiveBufferBytes: number;
  /** What one connection may receive before the others get their turn. */
  readonly receiveBudgetBytes: number;
  readonly maxOptions: number;
  /** All option data of one handshake together. */
  readonly maxOptionBytes: number;
  readonly handshakeTimeoutMs: number;
  /** How long one client waits in all, beyond its handshake, for arrays that are on their way. */
  readonly exportWaitMs: number;
  /**
   * While others wait for payload memory, a client that holds some must move `minStallBytes` in
   * this time (read its replies, or send the rest of its write), or it is dropped.
   */
  readonly stallTimeoutMs: number;
  readonly minStallBytes: number;
  /** How long `shutdown` waits for clients to take their replies. */
  readonly shutdownTimeoutMs: number;
}

export const DEFAULT_NBD_LIMITS: NbdLimits = {
  maxConnections: 256,
  maxConnectionsPerPeer: 128,
  maxHandshakes: 64,
  maxRequestsPerConnection: 128,
  maxPayloadBytesPerConnection: 64 * MIB,
  freePayloadShare: 4,
  maxRequestBytes: 32 * MIB,
  maxSkippedPayloadBytes: 64 * MIB,
  receiveBufferBytes: 16 * KIB,
  receiveBudgetBytes: MIB,
  maxOptions: 64,
  maxOptionBytes: 64 * KIB,
  handshakeTimeoutMs: 10_000,
  exportWaitMs: 60_000,
  stallTimeoutMs: 10_000,
  minStallBytes: MIB,
  shutdownTimeoutMs: 5_000,
};
