/**
 * Two authorities, `old` and `new`, each with a server's and a client's certificate, made by
 * openssl: `<ca>-cert.pem`, `<ca>-server-cert.pem`, `<ca>-client-cert.pem`, and `...-key.pem`.
 */
import { mustRun } from "./daemon.ts";
import { toolPath } from "./needs.ts";

/** What a certificate holds besides its key. */
export interface CertificateNames {
  readonly subject: string;
  readonly alternatives?: string;
}

export async function makeTwoAuthorities(folder: string): Promise<void> {
  for (const ca of ["old", "new"]) {
    await makeCertificate(folder, ca, { subject: `/CN=${ca}` });
    const alternatives = "DNS:localhost,IP:127.0.0.1";
    for (const name of [`${ca}-server`, `${ca}-client`]) {
      await makeCertificate(folder, name, { subject: `/CN=${name}`, alternatives }, ca);
    }
  }
}

/** `name` of the files; `ca` those of its authority, absent for an authority itself. */
export async function makeCertificate(
  folder: string,
  name: string,
  { subject, alternatives }: CertificateNames,
  ca?: string,
): Promise<void> {
  const openssl = toolPath("openssl")!;
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const files = ["-keyout", `${name}-key.pem`, "-out", `${name}-cert.pem`];
  const words = ["-addext", ca === undefined ? "keyUsage=keyCertSign,cRLSign" : NO_CA];
  if (alternatives !== undefined) words.push("-addext", `subjectAltName=${alternatives}`);
  if (ca !== undefined) words.push("-CA", `${ca}-cert.pem`, "-CAkey", `${ca}-key.pem`);
  await mustRun([openssl, "req", "-x509", "-subj", subject, ...key, ...files, ...words], {
    cwd: folder,
  });
}

const NO_CA = "basicConstraints=critical,CA:FALSE";
