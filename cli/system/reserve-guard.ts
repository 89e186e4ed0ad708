/**
 * The reserve guard: keeps free memory of the machine above a floor by what it lets a scoped group
 * use (guard-machine.ts has the rule, memory-reading.ts what counts as free). It runs in the process
 * of `memcloud run`, which is under the kit. A tick makes nothing, opens nothing and logs nothing.
 *
 * A lower `memory.high` than the group uses makes the kernel swap the difference out inside the
 * write, and somebody must do that: a group that only computes never asks for memory and so never
 * pays for itself. The write is therefore done without PR_SET_IO_FLUSHER, which would forbid it to
 * swap. While it lasts the limit is already in force.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { withoutIoFlusher } from '../../common/kit.ts';
import { nextHigh, type GuardLimits, type GuardView } from './guard-machine.ts';
import { GuardRegister } from './guard-register.ts';
import { MemoryReading, NumberFile, highWatermarkBytes, writeDecimal } from './memory-reading.ts';

/** Time between two looks, milliseconds. */
const TICK_MS = 25;
/** Looks between two counts of the guards on this machine: a second. */
const COUNT_INTERVAL_TICKS = 40;
const RESERVE_MIN_BYTES = 48 * 2 ** 20;
const RESERVE_SHARE = 0.03;
const GROUP_MIN_BYTES = 16 * 2 ** 20;
const GROUP_MIN_SHARE = 1 / 8;
const WATERMARK_FACTOR = 5 / 4;
const NEWLINE = 0x0a;

/** What a guard saw and did. */
export interface GuardReport {
  /** The floor, bytes. */
  readonly reserveBytes: number;
  /** Looks. */
  readonly ticks: number;
  /** Of these, how many changed the limit. */
  readonly adjustments: number;
  /** Looks at which the group was at its minimum and the machine still below the floor. */
  readonly starvedTicks: number;
  /** The least that the guard counted as free, bytes. */
  readonly lowestFreeBytes: number;
  /** The least `MemFree`, bytes. */
  readonly lowestMemFreeBytes: number;
  /** The longest time that one change of the limit took, milliseconds. */
  readonly slowestChangeMs: number;
}

/**
 * The floor unless told: 48 MiB, or 3 % of a larger machine, and in any case clear of the kernel's
 * own high watermark (bytes), below which it swaps out whatever it finds, also outside the group.
 */
export function defaultReserveBytes(
  totalBytes: number = os.totalmem(),
  watermarkBytes: number = highWatermarkBytes(),
): number {
  const clear = watermarkBytes * WATERMARK_FACTOR;
  return Math.floor(Math.max(RESERVE_MIN_BYTES, totalBytes * RESERVE_SHARE, clear));
}

/** The least that a group is squeezed to: an eighth of its limit, at least 16 MiB. */
export function groupMinimumBytes(maximumBytes: number): number {
  return Math.min(maximumBytes, Math.max(GROUP_MIN_BYTES, maximumBytes * GROUP_MIN_SHARE));
}

/** One guard for one group. */
export class ReserveGuard {
  /** Called once when the group is gone; the guard has stopped then. */
  onGone: () => void = () => undefined;
  readonly #limits: GuardLimits;
  readonly #memory: MemoryReading;
  readonly #current: NumberFile;
  readonly #highFd: number;
  readonly #register: GuardRegister;
  readonly #view: GuardView = { currentBytes: 0, freeBytes: 0, guardCount: 1 };
  readonly #digits = Buffer.alloc(32);
  readonly #write = (): void => this.#writeHigh();
  #timer: NodeJS.Timeout | undefined;
  #open = true;
  #highBytes: number;
  #ticks = 0;
  #adjustments = 0;
  #starvedTicks = 0;
  #lowestFreeBytes = Number.MAX_SAFE_INTEGER;
  #lowestMemFreeBytes = Number.MAX_SAFE_INTEGER;
  #slowestChangeMs = 0;

  /**
   * Opens the files of a group and sets its first limit.
   *
   * @param options - `directory` of the group; `maximumBytes` its `memory.max`; `meminfo` and
   *   `registerFolder` for tests
   * @throws MemcloudError `ERR_NATIVE`
   */
  constructor(options: {
    directory: string;
    reserveBytes: number;
    maximumBytes: number;
    meminfo?: string;
    registerFolder?: string;
  }) {
    const { directory, reserveBytes, maximumBytes, meminfo } = options;
    const minimumBytes = groupMinimumBytes(maximumBytes);
    this.#limits = { reserveBytes, maximumBytes, minimumBytes };
    this.#highBytes = maximumBytes;
    try {
      this.#memory = new MemoryReading(meminfo);
      this.#current = new NumberFile(path.join(directory, 'memory.current'));
      this.#highFd = fs.openSync(path.join(directory, 'memory.high'), 'w');
    } catch (cause) {
      throw new MemcloudError('ERR_NATIVE', `cannot guard ${directory}: ${String(cause)}`, {
        cause,
      });
    }
    this.#register = new GuardRegister(options.registerFolder);
    try {
      this.#writeHigh();
      this.#look();
    } catch (cause) {
      this.stop();
      throw new MemcloudError('ERR_NATIVE', `cannot guard ${directory}: ${String(cause)}`, {
        cause,
      });
    }
  }

  /** Starts to look regularly. */
  start(): void {
    this.#timer = setInterval(() => this.tick(), TICK_MS);
  }

  /** Looks once and changes the limit when it must. Never throws; a group that is gone ends it. */
  tick(): void {
    if (!this.#open) return;
    try {
      this.#look();
    } catch {
      this.stop();
      this.onGone();
    }
  }

  /** Ends the guard; the last limit stays in force. May be called twice. */
  stop(): void {
    clearInterval(this.#timer);
    if (!this.#open) return;
    this.#open = false;
    this.#register.leave();
    this.#memory.close();
    this.#current.close();
    fs.closeSync(this.#highFd);
  }

  /** What it saw and did so far. */
  get report(): GuardReport {
    return {
      reserveBytes: this.#limits.reserveBytes,
      ticks: this.#ticks,
      adjustments: this.#adjustments,
      starvedTicks: this.#starvedTicks,
      lowestFreeBytes: this.#lowestFreeBytes,
      lowestMemFreeBytes: this.#lowestMemFreeBytes,
      slowestChangeMs: this.#slowestChangeMs,
    };
  }

  #look(): void {
    this.#memory.read();
    const currentBytes = this.#current.read();
    const { freeBytes, memFreeBytes } = this.#memory;
    if (this.#ticks % COUNT_INTERVAL_TICKS === 0) this.#view.guardCount = this.#register.count();
    this.#ticks += 1;
    this.#view.currentBytes = currentBytes;
    this.#view.freeBytes = freeBytes;
    if (freeBytes < this.#lowestFreeBytes) this.#lowestFreeBytes = freeBytes;
    if (memFreeBytes < this.#lowestMemFreeBytes) this.#lowestMemFreeBytes = memFreeBytes;
    const highBytes = nextHigh(this.#limits, this.#highBytes, this.#view);
    const { minimumBytes, reserveBytes } = this.#limits;
    if (highBytes === minimumBytes && freeBytes < reserveBytes) this.#starvedTicks += 1;
    // Where the limit stays but the group is above it, nobody may be at work on that: ask again.
    const squeezes = currentBytes > highBytes && freeBytes < reserveBytes;
    if (highBytes === this.#highBytes && !squeezes) return;
    this.#highBytes = highBytes;
    const startMs = performance.now();
    if (currentBytes > highBytes) withoutIoFlusher(this.#write);
    else this.#writeHigh();
    this.#adjustments += 1;
    const tookMs = performance.now() - startMs;
    if (tookMs > this.#slowestChangeMs) this.#slowestChangeMs = tookMs;
  }

  #writeHigh(): void {
    const length = writeDecimal(this.#digits, this.#highBytes);
    this.#digits[length] = NEWLINE;
    fs.writeSync(this.#highFd, this.#digits, 0, length + 1, 0);
  }
}
