/** Text of others that people will see: a terminal obeys what a log or an error should only show. Pure. */

/**
 * The text with a question mark for each UTF-16 code unit that is no printable ASCII, cut to a length.
 *
 * @param lengthMax - characters that are kept
 */
export function printableAscii(text: string, lengthMax: number): string {
  return text.slice(0, lengthMax).replace(/[^\x20-\x7e]/g, '?');
}
