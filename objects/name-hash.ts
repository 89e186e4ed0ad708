/** A hash of names that only this process knows, so that nobody can choose names that fall together. Pure. */

/** FNV-1a over the characters, or the two words of a number, begun at a secret and mixed at the end. */
export class NameHash {
  readonly #seed: number;

  /** @param random - 0 or more, below 1 */
  constructor(random: () => number) {
    this.#seed = Math.floor(random() * 2 ** 32);
  }

  /** 32 bits of a name. */
  of(name: string | number): number {
    let hash = typeof name === 'number' ? this.#ofNumber(name) : this.#ofText(name);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #ofText(text: string): number {
    let hash = this.#seed;
    for (let index = 0; index < text.length; index += 1) {
      hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
    }
    return hash;
  }

  /** Words instead of digits, which would have to be made first. */
  #ofNumber(value: number): number {
    const low = Math.imul(this.#seed ^ value, 0x85ebca6b);
    return Math.imul(low ^ (low >>> 13) ^ Math.floor(value / 2 ** 32), 0x01000193);
  }
}
