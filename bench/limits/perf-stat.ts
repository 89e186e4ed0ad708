/** The counters of `perf stat -x,` (perf-stat(1)), which virtual machines often do not have. Pure. */

/** Events that are counted. */
export const PERF_EVENTS = ['instructions', 'cycles'] as const;

/** Counts by event. */
export type PerfCounts = Readonly<Record<(typeof PERF_EVENTS)[number], number>>;

/**
 * Reads the report.
 *
 * @returns undefined when the machine does not count one of the events
 * @throws RangeError when an event has no line at all
 */
export function parsePerfStat(text: string): PerfCounts | undefined {
  const counts = PERF_EVENTS.map((event) => {
    const line = text.split('\n').find((row) => row.split(',')[2]?.split(':')[0] === event);
    if (line === undefined) {
      throw new RangeError(`perf stat: expected a line for ${event}, got none`);
    }
    return Number(line.split(',')[0]);
  });
  const [instructions = NaN, cycles = NaN] = counts;
  return Number.isFinite(instructions) && Number.isFinite(cycles)
    ? { instructions, cycles }
    : undefined;
}
