/**
 * Reads MemAvailable and the stall total of the kernel, ten times a second for the life of a provider:
 * the two files stay open and are read into one buffer. Reading both takes about 15 microseconds. A
 * PSI trigger would tell sooner, but waiting for one is poll(2) with POLLPRI, for which Node has no
 * call that does not block a thread.
 */
import fs from 'node:fs';
import { MemcloudError } from '../common/errors.ts';
import type { PressureReading } from './pressure-machine.ts';

const BUFFER_SIZE_BYTES = 4096;

/** Reads the files of this machine. */
export class MemoryGauge {
  readonly #buffer = Buffer.alloc(BUFFER_SIZE_BYTES);
  readonly #meminfo: number;
  readonly #pressure: number | undefined;

  constructor() {
    this.#meminfo = fs.openSync('/proc/meminfo', 'r');
    this.#pressure = openPressure();
  }

  /** @throws MemcloudError `ERR_UNSUPPORTED` when the kernel does not tell MemAvailable */
  read(): PressureReading {
    const available = /^MemAvailable:\s+(\d+) kB$/m.exec(this.#textOf(this.#meminfo))?.[1];
    if (available === undefined) {
      throw new MemcloudError('ERR_UNSUPPORTED', '/proc/meminfo: expected MemAvailable');
    }
    return { availableBytes: Number(available) * 1024, stallTotalUs: this.#stallTotal() };
  }

  /** Closes the files. */
  close(): void {
    fs.closeSync(this.#meminfo);
    if (this.#pressure !== undefined) fs.closeSync(this.#pressure);
  }

  #stallTotal(): number | undefined {
    if (this.#pressure === undefined) return undefined;
    return parseStallTotal(this.#textOf(this.#pressure));
  }

  #textOf(fd: number): string {
    const length = fs.readSync(fd, this.#buffer, 0, BUFFER_SIZE_BYTES, 0);
    return this.#buffer.toString('latin1', 0, length);
  }
}

/** The total of `some` in the text of /proc/pressure/memory, microseconds; undefined when there is none. */
export function parseStallTotal(text: string): number | undefined {
  const total = /^some .*\btotal=(\d+)$/m.exec(text)?.[1];
  return total === undefined ? undefined : Number(total);
}

/** Kernels without PSI have no such file, or one that cannot be read. */
function openPressure(): number | undefined {
  try {
    const fd = fs.openSync('/proc/pressure/memory', 'r');
    try {
      fs.readSync(fd, Buffer.alloc(1), 0, 1, 0);
      return fd;
    } catch {
      fs.closeSync(fd);
      return undefined;
    }
  } catch {
    return undefined;
  }
}
