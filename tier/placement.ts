/**
 * Which provider gets a copy of a slab: power of two choices (Mitzenmacher 2001). Two candidates are
 * drawn at random and the better one wins, which spreads load nearly as well as asking everybody and
 * does not send every consumer to the same emptiest provider at once. Never on a machine that has a
 * copy already; in another zone than the other copies where one has room; then by free bytes, where one that is
 * far away, or has only just come, counts for less.
 */

/** What placement knows of a provider. */
export interface PlacementCandidate {
  /** Bytes that it could still lend, by its last word. */
  readonly freeBytes: number;
  /** Names its machine: two copies are never on one. */
  readonly host: string;
  /** The wider failure domain; empty for none. */
  readonly zone: string;
  /** Smoothed round trip, milliseconds. */
  readonly roundTripMs: number;
  /** For how long it has been known, milliseconds. */
  readonly knownMs: number;
}

/** Where a copy is already. */
export type PlacedCopy = Pick<PlacementCandidate, 'host' | 'zone'>;

/** A provider counts in full once it has been known for so long. */
export const SLOW_START_MS = 30_000;
const SLOW_START_SHARE = 0.1;

/** How much a candidate draws: free bytes, fewer where it is new, fewer for each millisecond away. */
function weight({ freeBytes, roundTripMs, knownMs }: PlacementCandidate): number {
  const grown = Math.min(1, SLOW_START_SHARE + (1 - SLOW_START_SHARE) * (knownMs / SLOW_START_MS));
  return (freeBytes * grown) / (1 + roundTripMs);
}

/**
 * Draws one candidate for one more copy.
 *
 * @param candidates - providers that are up and take slabs
 * @param needBytes - room that it must have
 * @param placed - where the other copies of the slab are
 * @param random - a source of numbers in [0, 1), an argument so that simulations replay
 * @returns undefined when no candidate on another machine has room
 */
export function placeCopy<T extends PlacementCandidate>(
  candidates: readonly T[],
  needBytes: number,
  placed: readonly PlacedCopy[],
  random: () => number,
): T | undefined {
  const roomy = candidates.filter(
    ({ freeBytes, host }) => freeBytes >= needBytes && !placed.some((copy) => copy.host === host),
  );
  const isApart = ({ zone }: T): boolean =>
    zone === '' || !placed.some((copy) => copy.zone === zone);
  const apart = roomy.filter(isApart);
  const drawn = apart.length > 0 ? apart : roomy;
  const draw = (): T | undefined => drawn[Math.floor(random() * drawn.length)];
  const a = draw();
  const b = draw();
  if (a === undefined || b === undefined) return undefined;
  return weight(b) > weight(a) ? b : a;
}
