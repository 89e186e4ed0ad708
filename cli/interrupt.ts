/** Ctrl-C and SIGTERM for commands that have something to put right before they end. */

/** The exit code of a command that Ctrl-C ended: 128 + SIGINT, as shells have it. */
export const INTERRUPTED_EXIT_CODE = 130;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `work` with a signal that aborts when the user wants the command to end; a second Ctrl-C ends
 * the process as if nobody listened.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => {
    for (const name of SIGNALS) process.removeListener(name, onSignal);
  };
  const onSignal = (): void => {
    stop();
    process.exitCode = INTERRUPTED_EXIT_CODE;
    controller.abort();
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    stop();
  }
}
