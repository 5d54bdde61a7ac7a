/** The files of a TLS server: read and checked at the start, so that no client finds them wrong. */
import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { err, ok, type Result } from "../../base/result.ts";
import type { TlsMode } from "../../nbd/tls-front.ts";
import type { Config } from "../config.ts";

/** Texts in PEM. */
export interface TlsFiles {
  readonly mode: TlsMode;
  readonly cert: string;
  readonly key: string;
  /** Whose certificates clients need; absent: they need none. */
  readonly ca?: string;
}

export function contextOptions({ cert, key, ca }: TlsFiles): SecureContextOptions {
  return { cert, key, minVersion: "TLSv1.2", ...(ca === undefined ? {} : { ca }) };
}

/** Null where the configuration asks for no TLS. The error names the file and what is wrong. */
export function loadTlsFiles(config: Config): Result<TlsFiles | null, string> {
  const { nbdTls: mode, nbdTlsCert, nbdTlsKey, nbdTlsCa } = config;
  if (mode === undefined || nbdTlsCert === undefined || nbdTlsKey === undefined) return ok(null);
  const cert = readText(nbdTlsCert);
  if (!cert.ok) return cert;
  const key = readText(nbdTlsKey);
  if (!key.ok) return key;
  // An empty file is taken for a certificate, with which no client gets through.
  if (!cert.value.includes("-----BEGIN CERTIFICATE-----")) {
    return err(`${nbdTlsCert}: there is no certificate in it`);
  }
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(key.value)) {
    return err(`${nbdTlsKey}: there is no private key in it`);
  }
  const ca = nbdTlsCa === undefined ? ok(undefined) : readText(nbdTlsCa);
  if (!ca.ok) return ca;
  if (ca.value !== undefined && !ca.value.includes("-----BEGIN CERTIFICATE-----")) {
    return err(`${nbdTlsCa}: there is no certificate in it`);
  }
  const files: TlsFiles = {
    mode,
    cert: cert.value,
    key: key.value,
    ...(ca.value === undefined ? {} : { ca: ca.value }),
  };
  try {
    createSecureContext(contextOptions(files));
    return ok(files);
  } catch (error) {
    return err(`${nbdTlsCert} and ${nbdTlsKey}: ${describe(error)}`);
  }
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
