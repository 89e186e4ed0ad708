/** Waiting for what no event tells of: looks, with the event loop running between two looks. */

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
