/**
 * Text that came from outside (names on disk, paths, sentences with either in them), as it may be
 * printed: what a terminal would act on, or what would hide, turn round or break the text, stands
 * there as \uXXXX.
 *
 * | escaped                        | because                                                    |
 * |--------------------------------|------------------------------------------------------------|
 * | control characters (Cc)        | terminal escapes, a line break that makes a line of its own |
 * | format characters (Cf)         | they turn the direction of text round, or cannot be seen   |
 * | line separators (Zl, Zp)       | line breaks                                                |
 * | halves of a pair (Cs)          | no character                                               |
 *
 * The form is JSON's own, so that a line of JSON stays the same value.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const UNPRINTABLE_IN_LINES = /(?!\n)[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** For one line, or a part of one. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escapeUnits);
}

/** The same, of text that is several lines by intent. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE_IN_LINES, escapeUnits);
}

function escapeUnits(character: string): string {
  let escaped = "";
  for (let index = 0; index < character.length; index += 1) {
    escaped += `\\u${character.charCodeAt(index).toString(16).padStart(4, "0")}`;
  }
  return escaped;
}
