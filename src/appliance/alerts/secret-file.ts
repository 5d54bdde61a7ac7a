/**
 * A file that holds one secret, in one line: the key of a signature, the value of a header.
 *
 * It is read at the start and by SIGHUP. One that cannot be used is an error; then the former stays
 * in use, since an alert with the former is worth more than none.
 */
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { readTrusted } from "../host/trusted-file.ts";
import { HEADER_VALUE } from "./alert-config.ts";

const SECRET_BYTES_MAX = 4_096;

export class SecretFile {
  private readonly path: string;
  private readonly log: Log;
  private secret = "";
  private isToldReadable = false;

  private constructor(path: string, log: Log) {
    this.path = path;
    this.log = log;
  }

  /** The error names the file, and says what is wrong with it. */
  static open(path: string, log: Log): Result<SecretFile, string> {
    const file = new SecretFile(path, log);
    const read = file.readAgain();
    return read.ok ? ok(file) : read;
  }

  get value(): string {
    return this.secret;
  }

  readAgain(): Result<undefined, string> {
    const read = readTrusted(this.path, SECRET_BYTES_MAX);
    if (!read.ok) return err(`${this.path}: ${read.error}`);
    const [line = "", ...rest] = read.value.text.split(/\r?\n/);
    if (line === "") return err(`${this.path}: its first line is empty`);
    if (rest.some((other) => other !== "")) return err(`${this.path}: it holds more than one line`);
    if (!HEADER_VALUE.test(line)) return err(`${this.path}: it holds more than printable ASCII`);
    this.secret = line;
    const { isReadableByOthers } = read.value;
    if (isReadableByOthers && !this.isToldReadable) {
      const file = this.path;
      this.log.write("warn", "other users may read a secret of the alerts: chmod 0400", { file });
    }
    this.isToldReadable = isReadableByOthers;
    return ok();
  }
}
