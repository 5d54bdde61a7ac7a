/**
 * `caFile` of a webhook: certificates in PEM by which its server's is judged, in place of those of
 * the runtime. Read at the start and by SIGHUP; one that cannot be used is an error, and then the
 * former stays in use.
 */
import { X509Certificate } from "node:crypto";
import { err, ok, type Result } from "../../base/result.ts";
import { readTrusted } from "../host/trusted-file.ts";

const CA_BYTES_MAX = 1024 * 1024;

export class CaFile {
  private readonly path: string;
  private text = "";

  private constructor(path: string) {
    this.path = path;
  }

  /** The error names the file, and says what is wrong with it. */
  static open(path: string): Result<CaFile, string> {
    const file = new CaFile(path);
    const read = file.readAgain();
    return read.ok ? ok(file) : read;
  }

  /** In PEM. */
  get certificates(): string {
    return this.text;
  }

  readAgain(): Result<undefined, string> {
    const read = readTrusted(this.path, CA_BYTES_MAX);
    if (!read.ok) return err(`${this.path}: ${read.error}`);
    const { text } = read.value;
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    // With no certificate in it the runtime would take its own.
    if (blocks.length === 0 || !blocks.every(isCertificate)) {
      return err(`${this.path}: there is no certificate in it, or one that cannot be read`);
    }
    this.text = text;
    return ok();
  }
}

function isCertificate(block: string): boolean {
  try {
    new X509Certificate(block);
    return true;
  } catch {
    return false;
  }
}
