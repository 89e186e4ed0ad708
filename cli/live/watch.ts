/** Looks again and again, until somebody has seen enough. */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { pause } from '../../common/pause.ts';
import { interruptible } from '../interrupt.ts';
import { Screen } from './screen.ts';

/** What is shown, and where. */
export interface Watch<T> {
  /** Milliseconds between two looks. */
  readonly intervalMs: number;
  /** Looks. */
  readonly look: () => Promise<T>;
  /** Makes a picture of a look and the one before it. */
  readonly render: (now: T, before: T | undefined, elapsedMs: number) => string;
}

/** Reads `--interval`. @throws MemcloudError `ERR_USAGE` */
export function readIntervalMs(seconds: number): number {
  if (seconds >= 0.1 && seconds <= 3600) return Math.round(seconds * 1000);
  throw new MemcloudError('ERR_USAGE', `--interval: expected seconds, 0.1 to 3600, got ${seconds}`);
}

/** A look, or why there is none at the moment: the daemon may be on its way back. */
async function tryLook<T>(
  look: () => Promise<T>,
): Promise<{ readonly value: T } | { readonly problem: string }> {
  try {
    return { value: await look() };
  } catch (error) {
    const { code, message } = asMemcloudError(error);
    if (code !== 'ERR_DAEMON_UNREACHABLE' && code !== 'ERR_TIMEOUT') throw error;
    return { problem: message };
  }
}

/** Shows pictures on the whole terminal until q, Ctrl-C or a signal. */
export function watchOnScreen<T>(watch: Watch<T>): Promise<void> {
  return interruptible(async (interrupted) => {
    const quit = new AbortController();
    const signal = AbortSignal.any([interrupted, quit.signal]);
    const screen = new Screen(process.stdout, process.stdin, () => quit.abort());
    // What cannot be looked at even once is an error like that of any command.
    let before: T | undefined = await watch.look();
    let beforeMs = performance.now();
    screen.open();
    try {
      screen.draw(watch.render(before, undefined, 0));
      for (;;) {
        await pause(watch.intervalMs, signal);
        if (signal.aborted) return;
        const found = await tryLook(watch.look);
        const nowMs = performance.now();
        if ('problem' in found) {
          screen.draw(found.problem);
          continue;
        }
        screen.draw(watch.render(found.value, before, nowMs - beforeMs));
        before = found.value;
        beforeMs = nowMs;
      }
    } finally {
      screen.close();
    }
  });
}

/** Prints a picture, or a line of JSON, for every look until a signal: for pipes. */
export function watchOnPipe<T>(watch: Watch<T>): Promise<void> {
  return interruptible(async (signal) => {
    let before: T | undefined;
    let beforeMs = performance.now();
    while (!signal.aborted) {
      const now = await watch.look();
      const nowMs = performance.now();
      process.stdout.write(`${watch.render(now, before, nowMs - beforeMs)}\n`);
      before = now;
      beforeMs = nowMs;
      await pause(watch.intervalMs, signal);
    }
  });
}
