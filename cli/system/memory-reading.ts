/**
 * Numbers out of /proc/meminfo and of control group files, read many times a second in a process
 * that may not need memory when memory is short: the files stay open, the buffers are made once and
 * nothing is made for a reading.
 */
import fs from 'node:fs';
import { readText } from '../../common/control-group.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';

const MEMINFO_SIZE_MAX = 8192;
const NUMBER_SIZE_MAX = 32;
const DIGIT_0 = 0x30;
const SPACE = 0x20;

/** The number at a place: spaces, then digits. */
function parseDecimal(bytes: Buffer, start: number): number {
  let at = start;
  while (bytes[at] === SPACE) at += 1;
  let value = 0;
  for (; ; at += 1) {
    const digit = (bytes[at] ?? 0) - DIGIT_0;
    if (digit < 0 || digit > 9) return value;
    value = value * 10 + digit;
  }
}

/** Writes the digits of a whole number to the start of a buffer; returns how many. */
export function writeDecimal(bytes: Buffer, value: number): number {
  let length = 1;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) length += 1;
  let rest = value;
  for (let at = length - 1; at >= 0; at -= 1) {
    bytes[at] = DIGIT_0 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  return length;
}

/** Free memory above which the kernel stops reclaiming, over all zones, bytes; 0 if it does not say. */
export function highWatermarkBytes(file = '/proc/zoneinfo'): number {
  const text = readText(file) ?? '';
  let pages = 0;
  for (const [, high] of text.matchAll(/^ +high +(\d+)$/gm)) pages += Number(high);
  return pages * PAGE_SIZE_BYTES;
}

/** A file with one number that is read again and again. */
export class NumberFile {
  readonly #fd: number;
  readonly #bytes = Buffer.alloc(NUMBER_SIZE_MAX);

  /** Opens it. @throws Error of Node when it is not there */
  constructor(file: string) {
    this.#fd = fs.openSync(file, 'r');
  }

  /** Its number now. @throws Error of Node, `ENODEV` once its control group is gone */
  read(): number {
    const length = fs.readSync(this.#fd, this.#bytes, 0, NUMBER_SIZE_MAX - 1, 0);
    this.#bytes[length] = 0;
    return parseDecimal(this.#bytes, 0);
  }

  /** Closes the file. */
  close(): void {
    fs.closeSync(this.#fd);
  }
}

/**
 * How much memory of the machine is free. Two figures come of one reading:
 *
 * `memFreeBytes` is what the kernel can give away at once.
 *
 * `freeBytes` is what the guard counts as free: that, and half of the page cache that is out of use
 * and clean. The kernel drops such pages without a write, so nobody waits for the swap device; with
 * `MemFree` alone a machine whose cache fills its memory, which is every machine after a day, would
 * squeeze the group to nothing for no reason. `MemAvailable` is the upper bound and no more: it also
 * counts the pages of running programs and files not yet written. Half, since the kernel's word for
 * "out of use" is a guess.
 */
export class MemoryReading {
  /** Bytes that the guard counts as free, at the last reading. */
  freeBytes = 0;
  /** Bytes that the kernel counts as free, at the last reading. */
  memFreeBytes = 0;
  readonly #fd: number;
  readonly #bytes = Buffer.alloc(MEMINFO_SIZE_MAX);
  readonly #memFree = Buffer.from('MemFree:');
  readonly #available = Buffer.from('MemAvailable:');
  readonly #inactiveFile = Buffer.from('Inactive(file):');
  readonly #dirty = Buffer.from('Dirty:');
  readonly #writeback = Buffer.from('Writeback:');

  /** Opens /proc/meminfo, or a file like it. */
  constructor(file = '/proc/meminfo') {
    this.#fd = fs.openSync(file, 'r');
  }

  /** Reads both figures anew. */
  read(): void {
    const length = fs.readSync(this.#fd, this.#bytes, 0, MEMINFO_SIZE_MAX - 1, 0);
    this.#bytes[length] = 0;
    this.memFreeBytes = this.#field(this.#memFree);
    const unwritten = this.#field(this.#dirty) + this.#field(this.#writeback);
    const clean = Math.max(0, this.#field(this.#inactiveFile) - unwritten);
    this.freeBytes = Math.min(this.#field(this.#available), this.memFreeBytes + clean / 2);
  }

  /** Closes the file. */
  close(): void {
    fs.closeSync(this.#fd);
  }

  /** A field in bytes; 0 when the kernel has none of that name. */
  #field(name: Buffer): number {
    const at = this.#bytes.indexOf(name);
    return at < 0 ? 0 : parseDecimal(this.#bytes, at + name.length) * 1024;
  }
}
