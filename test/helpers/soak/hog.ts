/**
 * A program that will not let a page rest: `hog MIB SECONDS SEED CANARY_HEX`. Its heap is many small
 * pieces; it walks them in a random order, compares every word of a piece with what it must be, and
 * now and then writes it anew, so that pages go out and come back all the time and a stale page is
 * seen as well as a damaged one. Every page carries the canary, for those who look for it elsewhere.
 * Prints JSON lines; the last is the result. Runs in a guest, under node alone.
 */
const PIECE_SIZE_BYTES = 64 * 1024;
const PIECE_WORDS = PIECE_SIZE_BYTES / 4;
const PAGE_WORDS = 1024;
/** One piece of so many that are looked at is written anew. */
const REWRITE_EVERY = 3;
const REPORT_INTERVAL_MS = 5_000;

/** xorshift32: the next number after `word`. */
function next(word: number): number {
  let x = word;
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return x >>> 0;
}

function firstWord(piece: number, version: number): number {
  return ((piece + 1) * 2654435761 + version * 40503) >>> 0 || 1;
}

function fill(words: Uint32Array, piece: number, version: number, canary: Uint32Array): void {
  let word = firstWord(piece, version);
  for (let index = 0; index < PIECE_WORDS; index += 1) {
    word = next(word);
    words[index] = word;
  }
  for (let page = 0; page < PIECE_WORDS; page += PAGE_WORDS) words.set(canary, page);
}

function countWrong(
  words: Uint32Array,
  piece: number,
  version: number,
  canary: Uint32Array,
): number {
  let word = firstWord(piece, version);
  let wrong = 0;
  for (let index = 0; index < PIECE_WORDS; index += 1) {
    word = next(word);
    const inPage = index % PAGE_WORDS;
    const expected = inPage < canary.length ? canary[inPage] : word;
    if (words[index] !== expected) wrong += 1;
  }
  return wrong;
}

function print(value: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function main(): void {
  const [mebibytes = 0, seconds = 0, seed = 1] = process.argv.slice(2).map(Number);
  const canaryBytes = Buffer.from(process.argv[5] ?? '', 'hex');
  const canary = new Uint32Array(canaryBytes.length / 4);
  new Uint8Array(canary.buffer).set(canaryBytes);
  const count = (mebibytes * 2 ** 20) / PIECE_SIZE_BYTES;
  const startMs = performance.now();
  const versions = new Uint32Array(count);
  const pieces = Array.from({ length: count }, (_, piece) => {
    const words = new Uint32Array(PIECE_WORDS);
    fill(words, piece, 0, canary);
    return words;
  });
  print({ type: 'filled', ms: Math.round(performance.now() - startMs) });
  let random = seed;
  let reportMs = performance.now();
  let checked = 0;
  let wrong = 0;
  let longestMs = 0;
  while (performance.now() - startMs < seconds * 1000) {
    random = next(random);
    const piece = random % count;
    const words = pieces[piece] ?? new Uint32Array(0);
    const beforeMs = performance.now();
    wrong += countWrong(words, piece, versions[piece] ?? 0, canary);
    checked += PIECE_WORDS;
    if (random % REWRITE_EVERY === 0) {
      versions[piece] = (versions[piece] ?? 0) + 1;
      fill(words, piece, versions[piece] ?? 0, canary);
    }
    const nowMs = performance.now();
    longestMs = Math.max(longestMs, nowMs - beforeMs);
    if (nowMs - reportMs > REPORT_INTERVAL_MS) {
      reportMs = nowMs;
      print({ type: 'progress', checked, wrong, longestMs: Math.round(longestMs) });
    }
  }
  for (const [piece, words] of pieces.entries()) {
    wrong += countWrong(words, piece, versions[piece] ?? 0, canary);
    checked += PIECE_WORDS;
  }
  print({
    type: 'result',
    checked,
    wrong,
    longestMs: Math.round(longestMs),
    ms: Math.round(performance.now() - startMs),
  });
  process.exitCode = wrong === 0 ? 0 : 1;
}

main();
