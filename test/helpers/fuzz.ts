/** Seeded randomness and a time budget for fuzz tests: `SEED=n` repeats a run, `FUZZ_SECONDS=n` lengthens it. */
import tap, { type Test } from 'tap';

/** A small generator (mulberry32): one seed, one sequence. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  /** One of `values`. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** Random bytes. */
  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index += 1) bytes[index] = this.below(256);
    return bytes;
  }

  /** A copy with some bits, bytes or lengths changed. */
  mutate(original: Uint8Array): Buffer {
    let bytes = Buffer.from(original);
    for (let count = 1 + this.below(4); count > 0; count -= 1) {
      const at = this.below(Math.max(1, bytes.length));
      const kind = this.below(5);
      if (kind === 0 && bytes.length > 0) bytes[at]! ^= 1 << this.below(8);
      else if (kind === 1 && bytes.length > 0) bytes[at] = this.pick([0, 1, 0x7f, 0x80, 0xff]);
      else if (kind === 2) bytes = bytes.subarray(0, at);
      else if (kind === 3) {
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          this.bytes(this.below(9)),
          bytes.subarray(at),
        ]);
      } else
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(this.below(bytes.length + 1)),
        ]);
    }
    return bytes;
  }
}

/**
 * Runs `once` with a seed of its own again and again until the time is over. A throw fails the test
 * and names the seed that repeats it.
 */
export async function fuzz(
  t: Test,
  once: (random: Random) => void | Promise<void>,
  share = 1,
): Promise<void> {
  const first = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  const budgetMs = Number(process.env['FUZZ_SECONDS'] ?? 2) * 1000 * share;
  t.setTimeout(budgetMs + 60_000);
  // The file as a whole has a limit of its own; it holds at most eight such tests.
  tap.setTimeout(8 * budgetMs + 120_000);
  const endMs = performance.now() + budgetMs;
  let runs = 0;
  for (let seed = first; runs === 0 || performance.now() < endMs; seed += 1) {
    try {
      await once(new Random(seed));
    } catch (error) {
      t.comment(`SEED=${seed}`);
      throw error;
    }
    runs += 1;
    if (process.env['SEED'] !== undefined && process.env['FUZZ_SECONDS'] === undefined) break;
  }
  t.comment(`SEED=${first}, ${runs} runs`);
  t.ok(runs > 0);
}
