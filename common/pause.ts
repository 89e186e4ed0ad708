/** Waiting that can be given up. */

/**
 * Resolves after a while, or at once when the signal is given, also when it was given before. Never rejects.
 *
 * @param ms - milliseconds
 */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
