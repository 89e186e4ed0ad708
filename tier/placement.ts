/**
 * Which providers get a new slab: power of two choices (Mitzenmacher 2001). Two candidates are
 * drawn at random and the one with more free bytes wins, which spreads load nearly as well as
 * asking everybody and does not send every consumer to the same emptiest provider at once.
 */

/** What placement knows of a provider. */
export interface PlacementCandidate {
  /** Bytes that it could still lend, by its last word. */
  readonly freeBytes: number;
}

/**
 * Draws `count` different candidates that have room.
 *
 * @param candidates - providers that are up and do not hold the slab yet
 * @param needBytes - room that each must have
 * @param random - a source of numbers in [0, 1), an argument so that simulations replay
 * @returns at most `count` candidates, best first; fewer when there is no more room
 */
export function placeSlab<T extends PlacementCandidate>(
  candidates: readonly T[],
  count: number,
  needBytes: number,
  random: () => number,
): T[] {
  const left = candidates.filter((candidate) => candidate.freeBytes >= needBytes);
  const chosen: T[] = [];
  while (chosen.length < count && left.length > 0) {
    const first = Math.floor(random() * left.length);
    const second = Math.floor(random() * left.length);
    const a = left[first];
    const b = left[second];
    if (a === undefined || b === undefined) break;
    const index = b.freeBytes > a.freeBytes ? second : first;
    chosen.push(...left.splice(index, 1));
  }
  return chosen;
}
