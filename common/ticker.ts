/**
 * Periodic work of the whole process on one timer. An idle daemon costs what its wake-ups cost, some 200 us
 * each: caches are cold by then. So every period is a grid that starts at the same moment, and work whose
 * periods divide each other wakes the process once. No tick keeps the process alive.
 */
import { monotonicClock } from './clock.ts';

/** A timer of Node.js counts whole milliseconds, so that one may come this much before its moment. */
const EARLY_MS = 1;

/** Something that is called periodically. */
export interface Tick {
  /** Ends the calls; no call comes afterwards. May be said twice. */
  stop(): void;
}

interface Entry extends Tick {
  readonly periodMs: number;
  readonly onTick: () => void;
  nextMs: number;
}

const entries = new Set<Entry>();
let timer: NodeJS.Timeout | undefined;
let timerAtMs = Infinity;

/**
 * Calls `onTick` every `periodMs` on the common grid, the first time after at most one period. After a
 * standstill there is one call, however many were missed.
 *
 * @param periodMs - whole milliseconds, at least 1
 */
export function everyTick(periodMs: number, onTick: () => void): Tick {
  const entry: Entry = {
    periodMs,
    onTick,
    nextMs: nextOnGrid(periodMs, monotonicClock.nowMs()),
    stop: () => void entries.delete(entry),
  };
  entries.add(entry);
  arm();
  return entry;
}

/** The first moment of the grid that is later than what may count as now. */
function nextOnGrid(periodMs: number, nowMs: number): number {
  return (Math.floor((nowMs + EARLY_MS) / periodMs) + 1) * periodMs;
}

function arm(): void {
  let atMs = Infinity;
  for (const { nextMs } of entries) atMs = Math.min(atMs, nextMs);
  // A timer that comes too early for what is left, because something was stopped, arms the next one.
  if (atMs >= timerAtMs) return;
  clearTimeout(timer);
  timerAtMs = atMs;
  timer = setTimeout(run, Math.max(1, Math.ceil(atMs - monotonicClock.nowMs()))).unref();
}

function run(): void {
  timerAtMs = Infinity;
  const nowMs = monotonicClock.nowMs();
  try {
    for (const entry of entries) {
      if (entry.nextMs > nowMs + EARLY_MS) continue;
      entry.nextMs = nextOnGrid(entry.periodMs, nowMs);
      entry.onTick();
    }
  } finally {
    // Also when one throws: the others are still due.
    arm();
  }
}
