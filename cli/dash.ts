/**
 * A lone dash stands for stdin or stdout. The parser would make an empty word of it, and of the one in
 * `-o -` an empty value and an argument too many. So the parser is given another word, which nobody can
 * write because there is a NUL in it, and the command is given the dash again.
 */

const STAND_IN = '\0-';
/** As the parser quotes it. */
const QUOTED_STAND_IN = JSON.stringify(STAND_IN).slice(1, -1);

/** Puts the stand-in for each lone dash before `--`; what follows that is nobody's option. */
export function hideDashes(args: readonly string[]): string[] {
  const end = args.indexOf('--');
  return args.map((word, at) => (word === '-' && (end === -1 || at < end) ? STAND_IN : word));
}

function show(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(show);
  return value === STAND_IN ? '-' : value;
}

/** Puts the dashes back where the parser has read the words, in place. */
export function showDashes(flags: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(flags)) flags[name] = show(value);
}

/** The same for a sentence of the parser. */
export function showDashesIn(text: string): string {
  return text.replaceAll(STAND_IN, '-').replaceAll(QUOTED_STAND_IN, '-');
}
