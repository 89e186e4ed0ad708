/** Waiting with a limit: for a promise, and, by looking again and again, for what no event tells of. */

/**
 * Waits for a condition, at most so long.
 *
 * @param everyMs - between two looks
 * @returns whether it came
 */
export async function within(
  timeoutMs: number,
  everyMs: number,
  condition: () => boolean,
): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) return false;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return true;
}

/** Waits for `work`, at most so long. @returns what came of it, or undefined when that was not in time */
export async function resultWithin<T>(limitMs: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, limitMs, undefined);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
