/**
 * Glob patterns on keys: `*` any text, `?` one character, `[a-z]` one of a set, `[!a-z]` one of no set, `\`
 * takes the meaning from the character behind it. Every text is a pattern: a `[` without its `]` and a `\`
 * at the end stand for themselves. Nothing is special about `/` or a leading dot.
 *
 * The matcher remembers one place to return to, the last `*`, and never more: a shorter match of an earlier
 * `*` leaves at least as much text for what follows, so trying it again could not help. There is no
 * backtracking that could explode, and the steps that it takes are counted, so that a listing can stop.
 * Pure. Characters are code points.
 */

type Token =
  | { readonly kind: 'text'; readonly code: number }
  | { readonly kind: 'any' }
  | { readonly kind: 'star' }
  | {
      readonly kind: 'set';
      readonly negated: boolean;
      readonly ranges: readonly (readonly [number, number])[];
    };

/** A pattern that was read. */
export class Glob {
  /** What every text that fits begins with. */
  readonly prefix: string;
  /** Steps that all matches took so far. */
  steps = 0;
  readonly #tokens: readonly Token[];
  /** Code points that a text that fits has at least. */
  readonly #lengthMin: number;
  /** What one look at a character counts: the ranges of the longest set. */
  readonly #stepCount: number;

  /** @param pattern - any text */
  constructor(pattern: string) {
    this.#tokens = readPattern(Array.from(pattern));
    this.#lengthMin = this.#tokens.filter((token) => token.kind !== 'star').length;
    this.#stepCount = this.#tokens.reduce(
      (most, token) => Math.max(most, token.kind === 'set' ? token.ranges.length : 1),
      1,
    );
    let prefix = '';
    for (const token of this.#tokens) {
      if (token.kind !== 'text') break;
      prefix += String.fromCodePoint(token.code);
    }
    this.prefix = prefix;
  }

  /** True when the whole text fits. */
  matches(text: string): boolean {
    this.steps += 1;
    if (text.length < this.#lengthMin || !text.startsWith(this.prefix)) return false;
    let token = 0;
    let at = 0;
    let starToken = -1;
    let starAt = 0;
    while (at < text.length) {
      this.steps += this.#stepCount;
      const code = text.codePointAt(at) as number;
      const wanted = this.#tokens[token];
      if (wanted?.kind === 'star') {
        starToken = token;
        starAt = at;
        token += 1;
      } else if (wanted !== undefined && fits(wanted, code)) {
        token += 1;
        at += code > 0xffff ? 2 : 1;
      } else if (starToken >= 0) {
        starAt += (text.codePointAt(starAt) as number) > 0xffff ? 2 : 1;
        at = starAt;
        token = starToken + 1;
      } else {
        return false;
      }
      // Behind the last star only the end of the text matters.
      if (starToken === this.#tokens.length - 1) return true;
    }
    while (this.#tokens[token]?.kind === 'star') token += 1;
    return token === this.#tokens.length;
  }
}

function fits(token: Token, code: number): boolean {
  switch (token.kind) {
    case 'text':
      return token.code === code;
    case 'any':
      return true;
    case 'set': {
      const isIn = token.ranges.some(([first, last]) => code >= first && code <= last);
      return isIn !== token.negated;
    }
    case 'star':
      return false;
  }
}

function readPattern(characters: readonly string[]): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < characters.length) {
    const character = characters[at] as string;
    const set = character === '[' ? readSet(characters, at) : undefined;
    if (set !== undefined) {
      tokens.push(set.token);
      at = set.end;
    } else if (character === '*') {
      if (tokens.at(-1)?.kind !== 'star') tokens.push({ kind: 'star' });
      at += 1;
    } else if (character === '?') {
      tokens.push({ kind: 'any' });
      at += 1;
    } else {
      const isEscape = character === '\\' && at + 1 < characters.length;
      const literal = isEscape ? (characters[at + 1] as string) : character;
      tokens.push({ kind: 'text', code: literal.codePointAt(0) as number });
      at += isEscape ? 2 : 1;
    }
  }
  return tokens;
}

/** Reads `[...]`; undefined when it has no end. A `]` right behind the opening belongs to the set. */
function readSet(
  characters: readonly string[],
  start: number,
): { token: Token; end: number } | undefined {
  let at = start + 1;
  const negated = characters[at] === '!';
  if (negated) at += 1;
  const ranges: [number, number][] = [];
  for (let isFirst = true; ; isFirst = false) {
    if (characters[at] === ']' && !isFirst) break;
    const first = readMember(characters, at);
    if (first === undefined) return undefined;
    at = first.end;
    const isRange = characters[at] === '-' && characters[at + 1] !== ']';
    const last = isRange ? readMember(characters, at + 1) : first;
    if (last === undefined) return undefined;
    at = last.end;
    ranges.push([first.code, last.code]);
  }
  return { token: { kind: 'set', negated, ranges }, end: at + 1 };
}

function readMember(
  characters: readonly string[],
  at: number,
): { code: number; end: number } | undefined {
  const isEscape = characters[at] === '\\';
  const character = characters[isEscape ? at + 1 : at];
  const code = character?.codePointAt(0);
  return code === undefined ? undefined : { code, end: isEscape ? at + 2 : at + 1 };
}
