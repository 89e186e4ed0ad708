/**
 * Sizes that follow the machine: `8G`, `50%` of the RAM, `ram/4`, `min(ram/4, 8GiB)`, `ram - 2GiB`. One
 * line of a configuration then fits machines of every size. A superset of `parseSize` of `units.ts`.
 *
 *   sum     = product { ("+" | "-") product }
 *   product = factor { ("*" | "/") factor }
 *   factor  = NUMBER [UNIT | "%"] | "ram" | ("min" | "max") "(" sum { "," sum } ")" | "(" sum ")"
 *
 * A number without a unit is plain: it may multiply or divide a size, and anywhere else it counts bytes.
 * So `ram/4` is a size, and `8G/2G` and `ram*8G` are mistakes. Pure: the RAM is an argument.
 */
import { MemcloudError } from './errors.ts';
import { formatSize } from './units.ts';

/** Characters in one expression at most. */
export const SIZE_EXPRESSION_LENGTH_MAX = 200;
/** Parentheses inside each other at most. */
export const SIZE_EXPRESSION_DEPTH_MAX = 16;

const SHOWN_LENGTH_MAX = 60;
const BLANKS = /\s*/y;
const NUMBER = /\d+(?:\.\d+)?/y;
/** As in `parseSize`: all units are powers of 1024. Not the first letter of a word such as `min`. */
const UNIT = /\s*(?:([kmgt])(?:i?b)?|b)(?![a-z\d])|\s*%/iy;
const WORD = /[a-z]+/iy;
const SYMBOL = /[-+*/(),]/y;
const REST = /\S+/y;

const UNIT_BYTES: Readonly<Record<string, number>> = {
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
};

/** A number so far: of bytes, or plain. */
interface Amount {
  readonly value: number;
  readonly isSize: boolean;
}

/** Why a text is no size; becomes the end of the sentence. */
class Mistake extends Error {}

/** Text of somebody else as part of a sentence. */
function quote(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_LENGTH_MAX));
}

class Parser {
  readonly #text: string;
  readonly #ramBytes: number;
  #at = 0;
  #depth = 0;

  constructor(text: string, ramBytes: number) {
    this.#text = text;
    this.#ramBytes = ramBytes;
  }

  parse(): Amount {
    const amount = this.#sum();
    const rest = this.#peek();
    if (rest !== undefined) throw new Mistake(`${quote(rest)} is not expected there`);
    return amount;
  }

  #sum(): Amount {
    let left = this.#product();
    for (;;) {
      const sign = this.#take('+') ? 1 : this.#take('-') ? -1 : 0;
      if (sign === 0) return left;
      const right = this.#product();
      left = {
        value: left.value + sign * right.value,
        isSize: left.isSize || right.isSize,
      };
    }
  }

  #product(): Amount {
    let left = this.#factor();
    for (;;) {
      if (this.#take('*')) {
        const right = this.#factor();
        if (left.isSize && right.isSize) throw new Mistake('a size times a size is no size');
        left = { value: left.value * right.value, isSize: left.isSize || right.isSize };
      } else if (this.#take('/')) {
        const right = this.#factor();
        if (right.isSize) throw new Mistake('a size can be divided by a plain number only');
        if (right.value === 0) throw new Mistake('it divides by zero');
        left = { value: left.value / right.value, isSize: left.isSize };
      } else return left;
    }
  }

  #factor(): Amount {
    if (this.#take('(')) return this.#inParentheses(() => this.#sum());
    const number = this.#match(NUMBER);
    if (number !== undefined) return this.#number(Number(number));
    const word = this.#match(WORD)?.toLowerCase();
    if (word === 'ram') return { value: this.#ramBytes, isSize: true };
    if (word === 'min') return this.#least(Math.min);
    if (word === 'max') return this.#least(Math.max);
    const found = word ?? this.#peek();
    throw new Mistake(
      found === undefined
        ? 'it ends too soon'
        : `${quote(found)} is no number, ram, min() or max()`,
    );
  }

  #number(value: number): Amount {
    UNIT.lastIndex = this.#at;
    const match = UNIT.exec(this.#text);
    if (match === null) return { value, isSize: false };
    this.#at = UNIT.lastIndex;
    if (match[0].endsWith('%')) return { value: (value / 100) * this.#ramBytes, isSize: true };
    return { value: value * (UNIT_BYTES[(match[1] ?? '').toLowerCase()] ?? 1), isSize: true };
  }

  /** The arguments of `min` or `max`, and which of them it is. */
  #least(choose: (...values: number[]) => number): Amount {
    if (!this.#take('(')) throw new Mistake('min and max want their sizes in parentheses');
    return this.#inParentheses(() => {
      let chosen = this.#sum();
      while (this.#take(',')) {
        const next = this.#sum();
        chosen = {
          value: choose(chosen.value, next.value),
          isSize: chosen.isSize || next.isSize,
        };
      }
      return chosen;
    });
  }

  #inParentheses(inner: () => Amount): Amount {
    this.#depth += 1;
    if (this.#depth > SIZE_EXPRESSION_DEPTH_MAX) {
      throw new Mistake(`more than ${SIZE_EXPRESSION_DEPTH_MAX} parentheses inside each other`);
    }
    const amount = inner();
    if (!this.#take(')')) {
      const found = this.#peek();
      throw new Mistake(
        found === undefined ? 'a ")" is missing' : `")" is missing at ${quote(found)}`,
      );
    }
    this.#depth -= 1;
    return amount;
  }

  #take(symbol: string): boolean {
    this.#match(BLANKS);
    if (this.#text[this.#at] !== symbol) return false;
    this.#at += 1;
    return true;
  }

  /** What comes next, for a sentence: a word, a symbol or the rest up to a blank. */
  #peek(): string | undefined {
    const at = this.#at;
    const found = this.#match(WORD) ?? this.#match(SYMBOL) ?? this.#match(REST);
    this.#at = at;
    return found;
  }

  #match(pattern: RegExp): string | undefined {
    if (pattern !== BLANKS) this.#match(BLANKS);
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at = pattern.lastIndex;
    return found;
  }
}

/**
 * Works out a size.
 *
 * @param text - the expression, at most 200 characters
 * @param ramBytes - what `ram` and `%` stand for: bytes of this machine's RAM
 * @returns a whole number of bytes, 0 to 2^53 - 1, rounded down
 * @throws MemcloudError `ERR_USAGE_SIZE`: "expected a size such as ..., got ...: why"
 */
export function parseSizeExpression(text: string, ramBytes: number): number {
  try {
    if (text.length > SIZE_EXPRESSION_LENGTH_MAX) {
      throw new Mistake(`it is longer than ${SIZE_EXPRESSION_LENGTH_MAX} characters`);
    }
    const bytes = Math.floor(new Parser(text, ramBytes).parse().value);
    if (bytes < 0) throw new Mistake(`it is negative where the RAM is ${formatSize(ramBytes)}`);
    if (!Number.isSafeInteger(bytes)) throw new Mistake('it is too large');
    return bytes;
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    throw new MemcloudError(
      'ERR_USAGE_SIZE',
      `expected a size such as 512M, 50% or min(ram/4, 8GiB), got ${quote(text)}: ${error.message}`,
    );
  }
}
