/** A word as a shell reads it: unquoted where nothing in it means anything to a shell. */
export function shellWord(word: string): string {
  return /^[\w@.,:/=+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
