/**
 * Addresses and networks of IP as text, without a look at any host.
 *
 *   10.0.0.0/8   192.0.2.7          an IPv4 network; one address
 *   2001:db8::/32   ::1             the same of IPv6
 *   ::ffff:10.0.0.0/104             IPv4 as IPv6 writes it: the same as 10.0.0.0/8
 *
 * Inside, an address is its 16 bytes, IPv4 behind ::ffff:, so that both ways to write it are one.
 * A network of IPv6 that is larger than all of IPv4 holds no IPv4 address: who writes ::/0 means
 * IPv6.
 */
import { err, ok, type Result } from "./result.ts";

const ADDRESS_BYTES = 16;
const GROUPS = 8;
/** ::ffff:0:0/96 */
const MAPPED_BITS = 96;

export interface IpNetwork {
  readonly bytes: Uint8Array;
  /** Leading bits that count, of 128. */
  readonly bits: number;
}

/** The 16 bytes of an address; null for anything else, also one with a zone (`%eth0`). */
export function parseIpAddress(text: string): Uint8Array | null {
  if (!text.includes(":")) {
    const mapped = parseIpv4(text);
    return mapped === null ? null : groupsToBytes([0, 0, 0, 0, 0, 0xffff, ...mapped]);
  }
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [left, right] = halves.map((half, index) => {
    return half === "" ? [] : parseGroups(half, { isEnd: index === halves.length - 1 });
  });
  if (left === undefined || left === null || right === null) return null;
  if (right === undefined) return left.length === GROUPS ? groupsToBytes(left) : null;
  // "::" stands for at least one group.
  const zeros = GROUPS - left.length - right.length;
  if (zeros < 1) return null;
  return groupsToBytes([...left, ...new Array<number>(zeros).fill(0), ...right]);
}

/** `ADDRESS` or `ADDRESS/BITS`. The error is a sentence. */
export function parseIpNetwork(text: string): Result<IpNetwork, string> {
  const [address = "", digits, ...rest] = text.split("/");
  const bytes = parseIpAddress(address);
  if (bytes === null || rest.length > 0) {
    return err("it is no IP address or network (10.0.0.0/8, 192.0.2.7, 2001:db8::/32, ::1)");
  }
  const isIpv4 = !address.includes(":");
  const bitsMax = isIpv4 ? 32 : 128;
  const given = digits === undefined ? bitsMax : toNumber(digits);
  if (given > bitsMax) return err(`the number behind the slash is 0 to ${bitsMax}`);
  const bits = isIpv4 ? given + MAPPED_BITS : given;
  const network = { bytes, bits };
  // Most likely another network was meant.
  const isWhole = bytes.every((byte, index) => (byte & ~maskOf(bits, index)) === 0);
  if (!isWhole) return err(`it has bits set behind the first ${given}: name the network itself`);
  return ok(network);
}

export function isInNetwork(address: Uint8Array, { bytes, bits }: IpNetwork): boolean {
  if (bits < MAPPED_BITS && isMapped(address)) return false;
  return address.every((byte, index) => ((byte ^ bytes[index]!) & maskOf(bits, index)) === 0);
}

function isMapped(address: Uint8Array): boolean {
  return address.every((byte, index) => index >= 12 || byte === (index < 10 ? 0 : 0xff));
}

/** What counts of byte `index` where the first `bits` of all do. */
function maskOf(bits: number, index: number): number {
  const counted = Math.min(8, Math.max(0, bits - index * 8));
  return (0xff00 >> counted) & 0xff;
}

/** Groups of 16 bits; at the end may be an IPv4 address, which takes the place of two. */
function parseGroups(text: string, { isEnd }: { isEnd: boolean }): number[] | null {
  const groups: number[] = [];
  const words = text.split(":");
  for (const [index, word] of words.entries()) {
    const isLast = isEnd && index === words.length - 1;
    const dotted = isLast && word.includes(".") ? parseIpv4(word) : null;
    if (dotted !== null) groups.push(...dotted);
    else if (/^[0-9a-fA-F]{1,4}$/.test(word)) groups.push(Number.parseInt(word, 16));
    else return null;
  }
  return groups.length <= GROUPS ? groups : null;
}

/** As two groups of 16 bits. A leading zero is refused: to some it means octal. */
function parseIpv4(text: string): [number, number] | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  const [a = 256, b = 256, c = 256, d = 256] = match.slice(1).map(toNumber);
  return Math.max(a, b, c, d) > 255 ? null : [a * 256 + b, c * 256 + d];
}

/** Infinity for what is no number as people write it. */
function toNumber(digits: string): number {
  return /^(0|[1-9]\d{0,2})$/.test(digits) ? Number(digits) : Number.POSITIVE_INFINITY;
}

function groupsToBytes(groups: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(ADDRESS_BYTES);
  for (const [index, group] of groups.entries()) {
    bytes[index * 2] = group >> 8;
    bytes[index * 2 + 1] = group & 0xff;
  }
  return bytes;
}
