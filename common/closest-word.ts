/** "Did you mean": the word of a list that a mistyped one was meant to be. Pure. */

/** Beyond, two words have nothing to do with each other. */
const DISTANCE_MAX = 2;
const WORD_LENGTH_MAX = 64;

/** How many letters must be put in, left out or changed to make `a` of `b`. Levenshtein 1966. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const changed = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The nearest of `words` within two letters, and nearer than half the word; the first of equals. */
export function closestWord(word: string, words: readonly string[]): string | undefined {
  if (word.length > WORD_LENGTH_MAX) return undefined;
  let best: string | undefined;
  let least = Math.min(DISTANCE_MAX, Math.floor(word.length / 2)) + 1;
  for (const candidate of words) {
    const letters = distance(word, candidate);
    if (letters >= least) continue;
    least = letters;
    best = candidate;
  }
  return best;
}
