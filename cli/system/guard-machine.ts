/**
 * The reserve guard's decision: how much memory a scoped group may use now, so that the machine as a
 * whole keeps a reserve. It is `memory.high = memory.current + free - reserve`: what the group has,
 * and what it may still take. The limit is set ahead of the growth, so that the kernel slows the
 * group at the right moment by itself; the guard need not be quick, only not wrong for long.
 *
 * That sum does not depend on what the group itself does: what it takes it no longer finds free. So
 * the limit moves only when somebody else takes or gives memory, and cannot swing. Three things are
 * added. A band: a limit that would change by less is left alone. A share: where several guards look
 * at the same room, or the same lack of it, each acts on its part. A step: the kernel does the work
 * of a lower limit inside the write, so that one write asks for a bounded piece of work.
 */
import { PAGE_SIZE_BYTES } from '../../common/units.ts';

/** What one guard keeps to; bytes. */
export interface GuardLimits {
  /** Free memory that the machine keeps. */
  readonly reserveBytes: number;
  /** The group is never squeezed below this. */
  readonly minimumBytes: number;
  /** The group's `memory.max`; at least the minimum. */
  readonly maximumBytes: number;
}

/** The band is this part of the reserve. */
const BAND_DIVISOR = 32;
/** A limit is at most so far below what is in use, bytes. */
export const SQUEEZE_STEP_BYTES = 8 * 2 ** 20;

function clampToPages(limits: GuardLimits, bytes: number): number {
  const { minimumBytes, maximumBytes } = limits;
  if (bytes >= maximumBytes) return maximumBytes;
  return Math.max(minimumBytes, Math.floor(bytes / PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES);
}

/** How far free memory may stray above the reserve before anything is done about it, bytes. */
export function guardBandBytes(reserveBytes: number): number {
  return Math.max(PAGE_SIZE_BYTES, Math.floor(reserveBytes / BAND_DIVISOR));
}

/** What a guard sees at one look. */
export interface GuardView {
  /** What the group uses, bytes. */
  currentBytes: number;
  /** What the machine has free, bytes. */
  freeBytes: number;
  /** Guards on this machine, this one included; 1 and up. */
  guardCount: number;
}

/**
 * The limit for now.
 *
 * @param highBytes - the limit in force, as this function returned it; `maximumBytes` at first
 * @returns the new limit, `minimumBytes` to `maximumBytes`; `highBytes` itself when it may stay
 */
export function nextHigh(limits: GuardLimits, highBytes: number, view: GuardView): number {
  const { currentBytes, freeBytes, guardCount } = view;
  const bandBytes = guardBandBytes(limits.reserveBytes);
  const roomBytes = freeBytes - limits.reserveBytes;
  if (highBytes - currentBytes > roomBytes / guardCount) {
    const shareBytes = (roomBytes - bandBytes) / guardCount;
    const wanted = currentBytes + Math.max(shareBytes, -SQUEEZE_STEP_BYTES);
    return Math.min(highBytes, clampToPages(limits, wanted));
  }
  const shareBytes = (roomBytes - 2 * bandBytes) / guardCount;
  const offered = clampToPages(limits, currentBytes + shareBytes);
  const worthwhile = offered > highBytes + bandBytes || offered === limits.maximumBytes;
  return shareBytes > 0 && worthwhile ? Math.max(highBytes, offered) : highBytes;
}
