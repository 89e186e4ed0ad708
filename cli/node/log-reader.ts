/**
 * Reads a log that memnode keeps (daemon/log-file.ts): the last lines of `FILE.1` and `FILE` together, and
 * then whatever comes. When memnode has put the log aside, what was not read yet is in `FILE.1`.
 */
import fs from 'node:fs';
import { pause } from '../../common/pause.ts';

const BLOCK_SIZE_BYTES = 64 * 1024;
const LOOK_INTERVAL_MS = 200;
/** A line longer than this is given in parts. */
const LINE_SIZE_MAX_BYTES = 1024 * 1024;

/** Bytes of a file from `from` to its end, or to `to`; none when there is no file. */
function readBytes(file: string, from: number, to = Infinity): Buffer {
  let fd: number;
  try {
    fd = fs.openSync(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
  try {
    const end = Math.min(fs.fstatSync(fd).size, to);
    const bytes = Buffer.alloc(Math.max(0, end - from));
    let length = 0;
    while (length < bytes.length) {
      const size = Math.min(BLOCK_SIZE_BYTES, bytes.length - length);
      const count = fs.readSync(fd, bytes, length, size, from + length);
      if (count === 0) break;
      length += count;
    }
    return bytes.subarray(0, length);
  } finally {
    fs.closeSync(fd);
  }
}

/** The last lines of a log, the oldest first, and where its end was. */
export function lastLines(file: string, countMax: number): { lines: string[]; end: number } {
  const newest = readBytes(file, 0);
  // A line that is not whole yet is left for later.
  const end = newest.lastIndexOf(0x0a) + 1;
  const text = Buffer.concat([readBytes(`${file}.1`, 0), newest.subarray(0, end)]).toString();
  const lines = text.split('\n');
  lines.pop();
  return { lines: countMax === 0 ? [] : lines.slice(-countMax), end };
}

/** Tells a file from one that took its place; empty when there is none. */
function identity(file: string): string {
  const found = fs.statSync(file, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? '' : `${found.ino} ${found.ctimeNs}`;
}

/** Lines as they come, from byte `from` on, until the signal. */
export async function* follow(
  file: string,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let offset = from;
  let rest = Buffer.alloc(0);
  let older = identity(`${file}.1`);
  while (!signal.aborted) {
    const olderNow = identity(`${file}.1`);
    const isPutAside = olderNow !== older;
    older = olderNow;
    const missed = isPutAside ? readBytes(`${file}.1`, offset) : Buffer.alloc(0);
    const size = fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    if (isPutAside || size < offset) offset = 0;
    const fresh = readBytes(file, offset);
    offset += fresh.length;
    rest = Buffer.concat([rest, missed, fresh]);
    for (let at = rest.indexOf(0x0a); at >= 0; at = rest.indexOf(0x0a)) {
      yield rest.toString('utf8', 0, at);
      rest = rest.subarray(at + 1);
    }
    if (rest.length > LINE_SIZE_MAX_BYTES) {
      yield rest.toString();
      rest = Buffer.alloc(0);
    }
    await pause(LOOK_INTERVAL_MS, signal);
  }
}
