/**
 * The wall clock as the kernel gives it to files: CLOCK_REALTIME_COARSE, the clock that it stamps inodes
 * with itself (fs/inode.c, `current_time`), so that its times and ours never run against each other.
 */
import koffi from 'koffi';
import type { WallClock } from './tree.ts';

/** time.h. */
const CLOCK_REALTIME_COARSE = 5;

const clockGettime = koffi.load(null).func('int clock_gettime(int clock, void *into)');

/** See the top of the file. */
export class KernelClock implements WallClock {
  seconds = 0;
  nanoseconds = 0;
  /** `struct timespec`. */
  readonly #words = new Uint32Array(4);

  sample(): void {
    clockGettime(CLOCK_REALTIME_COARSE, this.#words);
    this.seconds = (this.#words[1] as number) * 2 ** 32 + (this.#words[0] as number);
    this.nanoseconds = this.#words[2] as number;
  }
}
