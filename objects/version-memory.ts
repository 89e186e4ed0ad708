/**
 * How far the versions of names came that are gone, so that one that is written again goes on from there and
 * a compare-and-set that was meant for the object before fails. A number for each name would grow for ever;
 * so names share 4096 of them, each the highest version that any of its names had when it went. A new name
 * begins at 1, or higher when another of its group is gone. Which names share is a secret of the process.
 * Pure.
 */

const GROUP_COUNT = 4096;
/** The first 12 bits of a hash. */
const GROUP_SHIFT = 20;

/** The highest versions of names that are gone. */
export class VersionMemory {
  readonly #versions = new Float64Array(GROUP_COUNT);
  /** The version that a name of this hash (name-hash.ts) may have had before, or more. */
  last(hash: number): number {
    return this.#versions[hash >>> GROUP_SHIFT] as number;
  }

  /** A name of this hash went at this version. */
  keep(hash: number, version: number): void {
    const group = hash >>> GROUP_SHIFT;
    this.#versions[group] = Math.max(this.#versions[group] as number, version);
  }
}
