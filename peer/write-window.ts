/**
 * How many pages of writes a session has in flight: as many as keep the way to the peer busy, and no more,
 * because a read waits behind them. Credits alone are up to 12 MiB, 100 ms of a gigabit; TCP fills any queue
 * it finds. So the delay is measured, as LEDBAT (RFC 6817) and TCP Vegas do: the time that a write takes
 * beyond the shortest seen is a queue, and the window is set so that the queue is {@link READ_QUEUE_MS} long.
 * Where nobody reads, it is longer: pauses of either side, for garbage, then leave no gap on the link.
 *
 * One write at a time is timed, the probe, so that a page costs nothing. Of some probes the fastest counts: a
 * pause of either side is not a queue. The shortest time is measured anew now and then by writes that are alone on
 * their way, or it would come to include our own queue, and grow with it.
 *
 * A machine: pure, time comes as an argument.
 */

/** How long a write may wait behind other writes while there are reads, milliseconds. */
export const READ_QUEUE_MS = 2;
/** The same where there are none. */
export const WRITE_QUEUE_MS = 8;
/** For so long after a read there may be another, milliseconds. */
const READ_MEMORY_MS = 1_000;
/** The window never gets smaller, pages; one write may always be in flight, whatever its size. */
export const WINDOW_PAGE_COUNT_MIN = 16;
/** Before anything is known, pages. */
const WINDOW_PAGE_COUNT_FIRST = 128;
/** Where credits are the limit, pages. */
const WINDOW_PAGE_COUNT_MAX = 4096;
/** Probes of which the fastest counts. */
const PROBE_COUNT = 3;
/** Most that the window grows and shrinks by at a time. */
const GROWTH_MAX = 1.5;
const SHRINK_MIN = 0.5;
/** After the window shrank by this, a queue of ours is shorter than this: else the way got longer. */
const SHRUNK_MAX = 0.75;
const SHORTER_MAX = 0.9;
/** After so long the shortest time is measured anew, milliseconds. */
const SHORTEST_LIFE_MS = 10_000;
/** The same where the smallest window has a queue: the way got longer, or it is a slow one. */
const SHORTEST_LIFE_MIN_MS = 1_000;

/** The window of one session. */
export class WriteWindow {
  #pageCount = WINDOW_PAGE_COUNT_FIRST;
  /** The slot of the write that is timed, or -1. */
  #probeSlot = -1;
  #probeSentMs = 0;
  /** Probes that came back; -1 where the next does not count. */
  #probeCount = 0;
  #fastestMs = Infinity;
  #shortestMs = Infinity;
  #shortestAtMs = -Infinity;
  #shortestLifeMs = SHORTEST_LIFE_MS;
  /** The window is shut but for one write, until some were timed that were alone. */
  #measuresShortest = false;
  /** What the fastest probe took before the window shrank last; Infinity when it did not shrink. */
  #beforeShrinkMs = Infinity;
  /** There were reads since the last change, and until when they count. */
  #wasRead = false;
  #readUntilMs = -Infinity;
  /** Writes were refused since the last change: by the window, or by anything. */
  #wasFull = false;
  #wasRefused = false;

  /** Pages of writes that may be in flight now. */
  get pageCount(): number {
    return this.#measuresShortest ? 1 : Math.floor(this.#pageCount);
  }

  /** True when the next write is to be timed. */
  get wantsProbe(): boolean {
    return this.#probeSlot < 0;
  }

  /** A write that is timed was sent. */
  onProbe(slot: number, nowMs: number): void {
    this.#probeSlot = slot;
    this.#probeSentMs = nowMs;
  }

  /** A read was sent. */
  onRead(): void {
    this.#wasRead = true;
  }

  /** A write was refused. @param byWindow - for the window's sake */
  onRefusal(byWindow: boolean): void {
    this.#wasRefused = true;
    if (byWindow) this.#wasFull = true;
  }

  /** The reply to a write came. */
  onReply(slot: number, nowMs: number): void {
    if (slot !== this.#probeSlot) return;
    this.#probeSlot = -1;
    const tookMs = nowMs - this.#probeSentMs;
    if (this.#measuresShortest || nowMs - this.#shortestAtMs >= this.#shortestLifeMs) {
      this.#renewShortest(tookMs, nowMs);
      return;
    }
    this.#shortestMs = Math.min(this.#shortestMs, tookMs);
    if (this.#probeCount >= 0) this.#fastestMs = Math.min(this.#fastestMs, tookMs);
    this.#probeCount += 1;
    if (this.#probeCount >= PROBE_COUNT) this.#adjust(nowMs);
  }

  #renewShortest(tookMs: number, nowMs: number): void {
    const isFirst = this.#shortestMs === Infinity;
    if (this.#wasRefused && !this.#measuresShortest && !isFirst) {
      this.#measuresShortest = true;
      this.#restart();
      return;
    }
    this.#fastestMs = Math.min(this.#fastestMs, tookMs);
    this.#probeCount += 1;
    if (this.#measuresShortest && this.#probeCount < PROBE_COUNT) return;
    this.#measuresShortest = false;
    this.#shortestMs = this.#fastestMs;
    this.#shortestAtMs = nowMs;
    this.#shortestLifeMs = SHORTEST_LIFE_MS;
    this.#restart();
    // It finds the way still empty.
    this.#probeCount = -1;
  }

  #adjust(nowMs: number): void {
    if (this.#wasRead) this.#readUntilMs = nowMs + READ_MEMORY_MS;
    this.#wasRead = false;
    const targetMs = nowMs < this.#readUntilMs ? READ_QUEUE_MS : WRITE_QUEUE_MS;
    const isQueue = this.#fastestMs - this.#shortestMs > targetMs;
    const isLonger = isQueue && this.#fastestMs > this.#beforeShrinkMs * SHORTER_MAX;
    this.#beforeShrinkMs = Infinity;
    if (isQueue ? this.#wasRefused : this.#wasFull) {
      const before = this.#pageCount;
      const factor = (this.#shortestMs + targetMs) / this.#fastestMs;
      const wanted = before * Math.min(GROWTH_MAX, Math.max(SHRINK_MIN, factor));
      this.#pageCount = Math.min(Math.max(wanted, WINDOW_PAGE_COUNT_MIN), WINDOW_PAGE_COUNT_MAX);
      if (this.#pageCount <= before * SHRUNK_MAX) this.#beforeShrinkMs = this.#fastestMs;
    }
    const isLeast = this.#pageCount <= WINDOW_PAGE_COUNT_MIN;
    this.#shortestLifeMs = isQueue && isLeast ? SHORTEST_LIFE_MIN_MS : SHORTEST_LIFE_MS;
    if (isLonger) this.#shortestLifeMs = 0;
    this.#restart();
  }

  #restart(): void {
    this.#probeCount = 0;
    this.#fastestMs = Infinity;
    this.#wasFull = false;
    this.#wasRefused = false;
  }
}
