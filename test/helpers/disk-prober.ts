/**
 * Watches a disk as a program would that reads and writes a page now and then: one read and one write of
 * 4 KiB every few milliseconds, whether or not the last ones have ended, each compared with what must
 * be there. The longest time that one took is the stall that a program would have felt. The time that
 * the prober's own process stood still is measured beside it, and how long a page took that was never
 * written, for which no donor is asked: what the machine and the daemon itself were late with.
 */
import type { NbdClient } from '../../nbd-server/client/connection.ts';

const PAGE = 4096;
const INTERVAL_MS = 5;
/** Requests that may wait at once: 20 s of them. */
const WAITING_COUNT_MAX = 8192;

/** What was seen since the last reset. */
export interface ProbeReport {
  readCount: number;
  writeCount: number;
  /** The longest read and write, milliseconds. */
  readMaxMs: number;
  writeMaxMs: number;
  /** What each read took, milliseconds. */
  readMs: number[];
  /** The longest read of a page that was never written, milliseconds. */
  holeMaxMs: number;
  /** The longest that the prober itself stood still, milliseconds. */
  ownStallMs: number;
  /** Pages that read as other bytes. */
  wrongCount: number;
  errors: string[];
}

function emptyReport(): ProbeReport {
  const counts = { readCount: 0, writeCount: 0, wrongCount: 0 };
  return {
    ...counts,
    readMs: [],
    readMaxMs: 0,
    writeMaxMs: 0,
    holeMaxMs: 0,
    ownStallMs: 0,
    errors: [],
  };
}

/** The bytes of version `version` of page `page`; no two are equal. */
function content(page: number, version: number): Buffer {
  const words = new Uint32Array(PAGE / 4);
  let state = Math.imul(page + 1, 2654435761) ^ Math.imul(version + 1, 2246822519);
  for (let at = 0; at < words.length; at += 1) {
    state = Math.imul(state ^ (state >>> 15), 2246822519) + at;
    words[at] = state;
  }
  words[0] = page;
  words[1] = version;
  return Buffer.from(words.buffer);
}

/** The prober of one range of a disk. */
export class DiskProber {
  #report = emptyReport();
  readonly #nbd: NbdClient;
  readonly #offset: number;
  readonly #pageCount: number;
  readonly #holeOffset: number;
  readonly #versions: Uint32Array;
  /** Pages that a request is about. */
  readonly #busy: Uint8Array;
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;
  #lastTickMs = 0;
  #nextWrite = 0;
  #nextRead = 0;

  /**
   * @param nbd - a client of its own
   * @param range - the bytes that are its own, and a page that nobody writes
   */
  constructor(nbd: NbdClient, range: { offset: number; sizeBytes: number; holeOffset: number }) {
    this.#nbd = nbd;
    this.#offset = range.offset;
    this.#pageCount = range.sizeBytes / PAGE;
    this.#holeOffset = range.holeOffset;
    this.#versions = new Uint32Array(this.#pageCount);
    this.#busy = new Uint8Array(this.#pageCount);
  }

  /** Writes every page. */
  async fill(): Promise<void> {
    const run = 64;
    for (let first = 0; first < this.#pageCount; first += 16 * run) {
      const jobs: Promise<void>[] = [];
      for (let at = first; at < Math.min(this.#pageCount, first + 16 * run); at += run) {
        const pages = Array.from({ length: run }, (_, index) => content(at + index, 0));
        jobs.push(this.#nbd.write(this.#offset + at * PAGE, Buffer.concat(pages)));
      }
      await Promise.all(jobs);
    }
    await this.#nbd.flush();
  }

  /** Begins. */
  start(): void {
    this.#lastTickMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), INTERVAL_MS);
  }

  /** What was seen since the last call, or the start. */
  take(): ProbeReport {
    const report = this.#report;
    this.#report = emptyReport();
    return report;
  }

  /** Ends; resolves when every request has. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#waiting > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  /** Reads every page once; how many were right. */
  async readAll(): Promise<number> {
    let right = 0;
    const run = 32;
    for (let first = 0; first < this.#pageCount; first += run) {
      const bytes = await this.#nbd.read(this.#offset + first * PAGE, run * PAGE);
      for (let index = 0; index < run; index += 1) {
        const page = first + index;
        const got = bytes.subarray(index * PAGE, (index + 1) * PAGE);
        if (got.equals(content(page, this.#versions[page] ?? 0))) right += 1;
      }
    }
    return right;
  }

  /** Pages in the range. */
  get pageCount(): number {
    return this.#pageCount;
  }

  #tick(): void {
    const nowMs = performance.now();
    const lateMs = nowMs - this.#lastTickMs - INTERVAL_MS;
    this.#lastTickMs = nowMs;
    if (lateMs > this.#report.ownStallMs) this.#report.ownStallMs = lateMs;
    if (this.#waiting > WAITING_COUNT_MAX) {
      this.#report.errors.push('too many requests wait');
      return;
    }
    void this.#readHole();
    // Strides that share no factor with the count come to every page.
    this.#nextRead = (this.#nextRead + 4999) % this.#pageCount;
    this.#nextWrite = (this.#nextWrite + 7919) % this.#pageCount;
    if (this.#busy[this.#nextRead] === 0) void this.#read(this.#nextRead);
    if (this.#busy[this.#nextWrite] === 0) void this.#write(this.#nextWrite);
  }

  async #readHole(): Promise<void> {
    this.#waiting += 1;
    const startMs = performance.now();
    try {
      await this.#nbd.read(this.#holeOffset, PAGE);
      const tookMs = performance.now() - startMs;
      if (tookMs > this.#report.holeMaxMs) this.#report.holeMaxMs = tookMs;
    } catch (error) {
      this.#report.errors.push(`read of a hole: ${String(error)}`);
    }
    this.#waiting -= 1;
  }

  async #read(page: number): Promise<void> {
    const startMs = this.#begin(page);
    try {
      const bytes = await this.#nbd.read(this.#offset + page * PAGE, PAGE);
      const tookMs = performance.now() - startMs;
      this.#report.readCount += 1;
      this.#report.readMs.push(tookMs);
      if (tookMs > this.#report.readMaxMs) this.#report.readMaxMs = tookMs;
      if (!bytes.equals(content(page, this.#versions[page] ?? 0))) this.#report.wrongCount += 1;
    } catch (error) {
      this.#report.errors.push(`read of page ${page}: ${String(error)}`);
    }
    this.#end(page);
  }

  async #write(page: number): Promise<void> {
    const startMs = this.#begin(page);
    const version = (this.#versions[page] ?? 0) + 1;
    this.#versions[page] = version;
    try {
      await this.#nbd.write(this.#offset + page * PAGE, content(page, version));
      const tookMs = performance.now() - startMs;
      this.#report.writeCount += 1;
      if (tookMs > this.#report.writeMaxMs) this.#report.writeMaxMs = tookMs;
    } catch (error) {
      this.#report.errors.push(`write of page ${page}: ${String(error)}`);
    }
    this.#end(page);
  }

  #begin(page: number): number {
    this.#busy[page] = 1;
    this.#waiting += 1;
    return performance.now();
  }

  #end(page: number): void {
    this.#busy[page] = 0;
    this.#waiting -= 1;
  }
}
