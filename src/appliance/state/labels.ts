/**
 * Labels: the names that this host gives to arrays (specs: an array is its UUID, its name is a
 * label). Pure.
 *
 * | name on disk                    | label                                     |
 * |---------------------------------|-------------------------------------------|
 * | an API name that is free        | the name                                  |
 * | an API name that is taken       | the name, shortened, `-` and the UUID's 8 |
 * | "my raid", "données", too long  | what of it is usable, `-` and the UUID's 8|
 * | nothing usable                  | `array-` and the UUID's 8                 |
 *
 * Where even that is taken, the label has more digits of the UUID.
 */
import { assert } from "../../base/assert.ts";
import { isUuid } from "../../md/uuid.ts";

const LABEL_CHARACTERS_MAX = 32;
const LABEL_PATTERN = /^[a-zA-Z0-9._-]{1,32}$/;
/** A label of this shape would be taken for a UUID. */
const BARE_UUID_PATTERN = /^[0-9a-f]{32}$/i;

/** Whether the API takes this as an array's name. */
export function isLabel(text: string): boolean {
  const isPath = text === "." || text === "..";
  return LABEL_PATTERN.test(text) && !isPath && !BARE_UUID_PATTERN.test(text);
}

/** A UUID however it is written (mdadm's groups, RFC 4122's, bare), in mdadm's form; else null. */
export function parseUuid(text: string): string | null {
  const digits = text.toLowerCase().replaceAll(/[:-]/g, "");
  if (!BARE_UUID_PATTERN.test(digits)) return null;
  const uuid = digits.replaceAll(/(.{8})(?=.)/g, "$1:");
  assert(isUuid(uuid), "32 digits make a uuid");
  return uuid;
}

export function randomArrayUuid(): string {
  return parseUuid(crypto.randomUUID())!;
}

/** The label for an array that has none yet. `isTaken` is asked of labels only. */
export function labelFor(
  array: { nameOnDisk: string; uuid: string },
  isTaken: (label: string) => boolean,
): string {
  const { nameOnDisk, uuid } = array;
  if (isLabel(nameOnDisk) && !isTaken(nameOnDisk)) return nameOnDisk;
  const usable = nameOnDisk.replaceAll(/[^a-zA-Z0-9._-]+/g, "-").replaceAll(/^[-.]+|[-.]+$/g, "");
  const digits = uuid.replaceAll(":", "");
  for (let count = 8; count < digits.length; count += 4) {
    const tail = `-${digits.slice(0, count)}`;
    const label = `${usable.slice(0, LABEL_CHARACTERS_MAX - tail.length) || "array"}${tail}`;
    if (isLabel(label) && !isTaken(label)) return label;
  }
  return `u-${digits.slice(2)}`; // 120 bits of it: nobody else has them.
}
