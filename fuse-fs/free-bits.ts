/**
 * Which numbers of a range are free, as bits with summaries: a bit of level n + 1 says that the word of 32
 * bits below it is not zero. So the next free number is found in a few steps however full the range is,
 * and a run of numbers changes word by word. Arguments are trusted to lie in the range. Pure.
 */

const ALL = 0xffff_ffff;

/** The mask of bits `[first, end)` of a word, 0 <= first < end <= 32. */
function maskOf(first: number, end: number): number {
  return (ALL << first) & (ALL >>> (32 - end));
}

/** The bits; a set bit is a free number. */
export class FreeBits {
  /** Level 0 has a bit for each number, the last level is one word. */
  readonly #levels: Uint32Array[] = [];
  #setCount = 0;

  /** @param count - numbers in the range, at least 1; all start free */
  constructor(count: number) {
    let bits = count;
    do {
      const words = Math.ceil(bits / 32);
      this.#levels.push(new Uint32Array(words));
      bits = words;
    } while (bits > 1);
    this.set(0, count);
  }

  /** Free numbers. */
  get setCount(): number {
    return this.#setCount;
  }

  /** Bytes of memory. */
  get sizeBytes(): number {
    return this.#levels.reduce((sum, level) => sum + level.byteLength, 0);
  }

  /** True when the number is free. */
  isSet(at: number): boolean {
    const level = this.#levels[0] as Uint32Array;
    return (((level[at >>> 5] as number) >>> (at & 31)) & 1) === 1;
  }

  /** Makes `[first, end)` free; none of them may be. */
  set(first: number, end: number): void {
    const level = this.#levels[0] as Uint32Array;
    for (let at = first; at < end;) {
      const word = at >>> 5;
      const stop = Math.min(end, (word + 1) * 32);
      const before = level[word] as number;
      level[word] = before | maskOf(at & 31, ((stop - 1) & 31) + 1);
      if (before === 0) this.#summarize(word);
      at = stop;
    }
    this.#setCount += end - first;
  }

  /** Takes `[first, end)`; all of them must be free. */
  clear(first: number, end: number): void {
    const level = this.#levels[0] as Uint32Array;
    for (let at = first; at < end;) {
      const word = at >>> 5;
      const stop = Math.min(end, (word + 1) * 32);
      level[word] = (level[word] as number) & ~maskOf(at & 31, ((stop - 1) & 31) + 1);
      if (level[word] === 0) this.#erase(word);
      at = stop;
    }
    this.#setCount -= end - first;
  }

  /** The first free number at or behind `from`, or -1. */
  next(from: number): number {
    let at = from;
    for (let depth = 0; depth < this.#levels.length; depth += 1) {
      const level = this.#levels[depth] as Uint32Array;
      const word = at >>> 5;
      if (word >= level.length) return -1;
      const bits = (level[word] as number) & (ALL << (at & 31));
      if (bits !== 0) return this.#descend(depth, word * 32 + 31 - Math.clz32(bits & -bits));
      at = word + 1;
    }
    return -1;
  }

  /** One past the run of free numbers from `from` on; at most `end`. */
  runEnd(from: number, end: number): number {
    const level = this.#levels[0] as Uint32Array;
    let at = from;
    while (at < end) {
      if ((at & 31) === 0 && level[at >>> 5] === ALL) at += 32;
      else if (this.isSet(at)) at += 1;
      else return at;
    }
    return end;
  }

  /** The first set bit at level 0 below bit `at` of level `depth`. */
  #descend(depth: number, at: number): number {
    let bit = at;
    for (let below = depth - 1; below >= 0; below -= 1) {
      const bits = (this.#levels[below] as Uint32Array)[bit] as number;
      bit = bit * 32 + 31 - Math.clz32(bits & -bits);
    }
    return bit;
  }

  /** A word of level 0 is no longer zero. */
  #summarize(word: number): void {
    let at = word;
    for (let depth = 1; depth < this.#levels.length; depth += 1) {
      const level = this.#levels[depth] as Uint32Array;
      const before = level[at >>> 5] as number;
      level[at >>> 5] = before | (1 << (at & 31));
      if (before !== 0) return;
      at >>>= 5;
    }
  }

  /** A word of level 0 has become zero. */
  #erase(word: number): void {
    let at = word;
    for (let depth = 1; depth < this.#levels.length; depth += 1) {
      const level = this.#levels[depth] as Uint32Array;
      const after = (level[at >>> 5] as number) & ~(1 << (at & 31));
      level[at >>> 5] = after;
      if (after !== 0) return;
      at >>>= 5;
    }
  }
}
