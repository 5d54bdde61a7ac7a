/**
 * The files of a TLS server (NBD's or the API's): read and checked at the start, so that no client
 * finds them wrong; and how TLS begins with them on a socket.
 */
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { createSecureContext, type SecureContextOptions, TLSSocket } from "node:tls";
import { err, ok, type Result } from "../base/result.ts";
import type { Config } from "./config.ts";

/** Texts in PEM. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** Whose certificates clients need; absent: they need none. */
  readonly ca?: string;
}

interface TlsPaths {
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly ca: string | undefined;
}

/** Null where the configuration asks for no TLS. The error names the file and what is wrong. */
export type LoadedTls = Result<TlsFiles | null, string>;

export function loadNbdTls(config: Config): LoadedTls {
  const { nbdTls, nbdTlsCert: cert, nbdTlsKey: key, nbdTlsCa: ca } = config;
  return nbdTls === undefined ? ok(null) : load({ cert, key, ca });
}

export function loadApiTls(config: Config): LoadedTls {
  const { apiTls, apiTlsCert: cert, apiTlsKey: key, apiTlsCa: ca } = config;
  return apiTls === undefined ? ok(null) : load({ cert, key, ca });
}

function load(paths: TlsPaths): LoadedTls {
  if (paths.cert === undefined || paths.key === undefined) return ok(null);
  const cert = readText(paths.cert);
  if (!cert.ok) return cert;
  const key = readText(paths.key);
  if (!key.ok) return key;
  // An empty file is taken for a certificate, with which no client gets through.
  if (!cert.value.includes("-----BEGIN CERTIFICATE-----")) {
    return err(`${paths.cert}: there is no certificate in it`);
  }
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(key.value)) {
    return err(`${paths.key}: there is no private key in it`);
  }
  const ca = paths.ca === undefined ? ok(undefined) : readText(paths.ca);
  if (!ca.ok) return ca;
  if (ca.value !== undefined && !ca.value.includes("-----BEGIN CERTIFICATE-----")) {
    return err(`${paths.ca}: there is no certificate in it`);
  }
  const files: TlsFiles = {
    cert: cert.value,
    key: key.value,
    ...(ca.value === undefined ? {} : { ca: ca.value }),
  };
  try {
    createSecureContext(contextOptions(files));
    return ok(files);
  } catch (error) {
    return err(`${paths.cert} and ${paths.key}: ${describe(error)}`);
  }
}

/**
 * Begins TLS as its server on a socket. `onSecure` is called once the handshake is through and,
 * where there is a CA, the client's certificate is good; `onRefused` where it is not. Errors are
 * the events of the socket that is returned.
 */
export function beginTls(
  socket: Socket,
  files: TlsFiles,
  { onSecure, onRefused }: { onSecure: () => void; onRefused: (reason: string) => void },
): TLSSocket {
  const isVerified = files.ca !== undefined;
  const secure = new TLSSocket(socket, {
    isServer: true,
    ...contextOptions(files),
    requestCert: isVerified,
    rejectUnauthorized: isVerified,
  });
  secure.on("secure", () => {
    // Asked twice on purpose: a client that was not verified must never get through.
    if (isVerified && !secure.authorized) onRefused("the client's certificate is not good");
    else onSecure();
  });
  return secure;
}

function contextOptions({ cert, key, ca }: TlsFiles): SecureContextOptions {
  return { cert, key, minVersion: "TLSv1.2", ...(ca === undefined ? {} : { ca }) };
}

function readText(path: string): Result<string, string> {
  try {
    return ok(readFileSync(path, "utf8"));
  } catch (error) {
    return err(`cannot read ${path}: ${describe(error)}`);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
