/**
 * What the client's certificate says whose it is: its common names and its DNS names, as text.
 *
 * The runtime gives the alternative names as one line, "DNS:a.example, URI:x". A value that holds
 * what could be taken for another entry comes in quotes with its commas escaped, so that the line
 * is cut at commas safely; entries in quotes are no host's name, and are passed over.
 */
import type { TLSSocket } from "node:tls";

const NAME = /^DNS:([A-Za-z0-9.*_-]+)$/;

/** For a certificate that was verified; of another its words are worth nothing. */
export function certificateNames(secure: TLSSocket): string[] {
  const { subject, subjectaltname } = secure.getPeerCertificate();
  // Several where it has several, whatever the types say.
  const common = [subject?.CN as string | readonly string[] | undefined].flat();
  const alternatives = (subjectaltname ?? "").split(", ").map((text) => NAME.exec(text)?.[1]);
  const names = [...common, ...alternatives];
  return [...new Set(names.filter((name) => name !== undefined && name !== ""))] as string[];
}
