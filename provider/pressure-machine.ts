/**
 * Is the owner of this machine short of memory, and by how much? Two things are looked at, several
 * times a second. MemAvailable, the kernel's estimate of what programs can take without swapping,
 * says how much is missing. Stall time (PSI, Documentation/accounting/psi.rst: `some` of
 * /proc/pressure/memory) says that programs wait for memory already; it is taken from the running
 * total over the last half to whole second, because `avg10` moves only every two seconds. Stalls count
 * only while little is available: a control group at its own limit stalls too, and nothing that we give
 * back would help it.
 *
 * ```
 *   available:  0 ... floor (reserve/4) ... reserve ... high (reserve * 5/4) ... near (reserve * 2)
 *   emergency        |<- in                |
 *   pressed                                |<- in      out ->|
 *   pressed by stalls                                                   |<- only below
 * ```
 *
 * Each mark is left further away than it is entered, and calm comes only after it lasted: what was
 * asked back should not be granted again at once. A machine: pure; readings and time are arguments.
 */

/** `emergency`: below the hard floor, where leases end without their holders' help. */
export type PressureLevel = 'calm' | 'pressed' | 'emergency';

/** What the kernel says now. */
export interface PressureReading {
  /** MemAvailable, bytes. */
  readonly availableBytes: number;
  /** Total time that some task waited for memory, microseconds; undefined where the kernel has no PSI. */
  readonly stallTotalUs: number | undefined;
}

/** Of the reserve, what is left when the emergency begins. */
const FLOOR_SHARE = 1 / 4;
/** Of the reserve, what must be there for the emergency to be over. */
const FLOOR_LEFT_SHARE = 1 / 2;
/** In reserves, what must be available for calm, and what is aimed at. */
const HIGH_SHARE = 5 / 4;
/** In reserves, above which stalls are not our business. */
const NEAR_SHARE = 2;
/** Of the time, the stalls at which pressure begins; those of a machine that works normally are below 1 %. */
const STALL_SHARE_ENTER = 0.1;
/** Of the time, the stalls below which it is over. */
const STALL_SHARE_LEAVE = 0.02;
/** Half of the time over which stalls are counted. */
const STALL_WINDOW_HALF_MS = 500;
/** How long all must be well before it is called calm. */
const CALM_AFTER_MS = 2_000;

/** The state of one machine's memory. */
export class PressureMachine {
  /** How bad it is. */
  level: PressureLevel = 'calm';
  /** Bytes that are missing now; 0 in calm. */
  shortageBytes = 0;
  /** MemAvailable at the last reading. */
  availableBytes = 0;
  /** Share of the last half to whole second in which some task waited for memory, 0 to 1. */
  stallShare = 0;
  /** Times that calm ended. */
  enteredCount = 0;
  #reserveBytes: number;
  #wellSinceMs = Infinity;
  /** Two earlier totals; the older is 500 to 1000 ms old once readings go on. */
  #older: { atMs: number; totalUs: number } | undefined;
  #newer: { atMs: number; totalUs: number } | undefined;

  /** @param reserveBytes - what the owner is to have available; 0 watches nothing */
  constructor(reserveBytes: number) {
    this.#reserveBytes = reserveBytes;
  }

  /** What the owner is to have available. */
  get reserveBytes(): number {
    return this.#reserveBytes;
  }

  /** Changes the reserve; the next reading is judged by it. */
  setReserve(reserveBytes: number): void {
    this.#reserveBytes = reserveBytes;
  }

  /** Takes a reading. */
  observe({ availableBytes, stallTotalUs }: PressureReading, nowMs: number): void {
    this.availableBytes = availableBytes;
    this.stallShare = this.#stallShareAt(stallTotalUs, nowMs);
    const before = this.level;
    this.level = this.#nextLevel(nowMs);
    if (before === 'calm' && this.level !== 'calm') this.enteredCount += 1;
    this.shortageBytes = this.level === 'calm' ? 0 : this.#shortage();
  }

  #nextLevel(nowMs: number): PressureLevel {
    const { availableBytes, level } = this;
    const reserveBytes = this.#reserveBytes;
    const floorShare = level === 'emergency' ? FLOOR_LEFT_SHARE : FLOOR_SHARE;
    if (availableBytes < reserveBytes * floorShare) {
      this.#wellSinceMs = Infinity;
      return 'emergency';
    }
    if (level === 'calm') {
      return availableBytes < reserveBytes || this.#isStalled(STALL_SHARE_ENTER)
        ? 'pressed'
        : 'calm';
    }
    const isWell =
      availableBytes >= reserveBytes * HIGH_SHARE && !this.#isStalled(STALL_SHARE_LEAVE);
    if (!isWell) this.#wellSinceMs = Infinity;
    else if (this.#wellSinceMs === Infinity) this.#wellSinceMs = nowMs;
    return nowMs - this.#wellSinceMs >= CALM_AFTER_MS ? 'calm' : 'pressed';
  }

  #isStalled(share: number): boolean {
    return this.stallShare >= share && this.availableBytes < this.#reserveBytes * NEAR_SHARE;
  }

  #shortage(): number {
    const aim = this.#isStalled(STALL_SHARE_LEAVE) ? NEAR_SHARE : HIGH_SHARE;
    return Math.max(0, Math.ceil(this.#reserveBytes * aim - this.availableBytes));
  }

  #stallShareAt(totalUs: number | undefined, nowMs: number): number {
    if (totalUs === undefined) return 0;
    this.#newer ??= { atMs: nowMs, totalUs };
    if (nowMs - this.#newer.atMs >= STALL_WINDOW_HALF_MS) {
      this.#older = this.#newer;
      this.#newer = { atMs: nowMs, totalUs };
    }
    const base = this.#older;
    if (base === undefined || nowMs <= base.atMs) return 0;
    return Math.min(1, Math.max(0, (totalUs - base.totalUs) / 1000 / (nowMs - base.atMs)));
  }
}
