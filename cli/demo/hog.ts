/**
 * A program with a large heap that knows what every word of it must be: `hog MIB PASSES`. It fills
 * the heap with a pseudo-random sequence, then walks it again and again and compares every word.
 * `memcloud demo` runs it with less RAM than its heap, so that most of the heap has been out and
 * back before it is compared. Prints JSON lines; the last is the result.
 */
import { swapCounters } from '../system/swap-counters.ts';

const CHUNK_SIZE_BYTES = 1024 * 1024;
const CHUNK_WORDS = CHUNK_SIZE_BYTES / 4;

/** xorshift32: a word from its position, so that no second copy has to be kept. */
function nextWord(word: number): number {
  let x = word;
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return x >>> 0;
}

function seedOf(chunk: number): number {
  return (chunk * 2654435761 + 88172645) >>> 0 || 1;
}

function fill(words: Uint32Array, chunk: number): void {
  let word = seedOf(chunk);
  for (let index = 0; index < CHUNK_WORDS; index += 1) {
    word = nextWord(word);
    words[index] = word;
  }
}

function countWrong(words: Uint32Array, chunk: number): number {
  let word = seedOf(chunk);
  let wrong = 0;
  for (let index = 0; index < CHUNK_WORDS; index += 1) {
    word = nextWord(word);
    if (words[index] !== word) wrong += 1;
  }
  return wrong;
}

function print(value: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function main(): void {
  const mebibytes = Number(process.argv[2]);
  const passes = Number(process.argv[3]);
  const before = swapCounters();
  const startMs = performance.now();
  const chunks = Array.from({ length: mebibytes }, () => new Uint32Array(CHUNK_WORDS));
  chunks.forEach(fill);
  print({ type: 'filled', mebibytes, ms: Math.round(performance.now() - startMs) });
  let wrong = 0;
  for (let pass = 1; pass <= passes; pass += 1) {
    const passStartMs = performance.now();
    wrong += chunks.reduce((sum, words, chunk) => sum + countWrong(words, chunk), 0);
    print({ type: 'verified', pass, wrong, ms: Math.round(performance.now() - passStartMs) });
  }
  const after = swapCounters();
  print({
    type: 'result',
    wordsChecked: chunks.length * CHUNK_WORDS * passes,
    wrongWords: wrong,
    pagesOut: after.pagesOut - before.pagesOut,
    pagesIn: after.pagesIn - before.pagesIn,
    ms: Math.round(performance.now() - startMs),
  });
  process.exitCode = wrong === 0 ? 0 : 1;
}

main();
