/** Where the bytes of a value come from: a word of the command line, a file, or stdin. */
import fs from 'node:fs';
import { Readable, addAbortSignal } from 'node:stream';
import { MemcloudError } from '../../common/errors.ts';

const READ_SIZE_BYTES = 256 * 1024;

/** The bytes of a value that is to be stored. */
export interface Input {
  /** They, read no faster than they are taken. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** How many there are; undefined where that shows only at the end. */
  readonly sizeBytes: number | undefined;
}

function openFile(file: string): { stream: Readable; sizeBytes: number | undefined } {
  let fd: number | undefined;
  try {
    fd = fs.openSync(file, 'r');
    const stat = fs.fstatSync(fd);
    if (stat.isDirectory()) throw new MemcloudError('ERR_USAGE', `${file}: expected a file`);
    // Files of /proc have bytes and no size.
    const sizeBytes = stat.isFile() && stat.size > 0 ? stat.size : undefined;
    return { stream: fs.createReadStream(file, { fd, highWaterMark: READ_SIZE_BYTES }), sizeBytes };
  } catch (error) {
    if (fd !== undefined) fs.closeSync(fd);
    if (error instanceof MemcloudError) throw error;
    const { code = '' } = error as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_USAGE', `cannot read ${file}: ${code}`, { cause: error });
  }
}

/**
 * Opens what a command was told to store.
 *
 * @param data - the word; `-` means stdin
 * @param file - the file, `-` likewise; one of the two
 * @param signal - ends the reading, with an error
 * @throws MemcloudError `ERR_USAGE`
 */
export function openInput(
  data: string | undefined,
  file: string | undefined,
  signal: AbortSignal,
): Input {
  if (data !== undefined && file !== undefined) {
    throw new MemcloudError('ERR_USAGE', 'expected the value or --file, got both');
  }
  if (data === undefined && file === undefined && process.stdin.isTTY) {
    throw new MemcloudError('ERR_USAGE', 'expected a value, --file FILE, or - for stdin');
  }
  if (file !== undefined && file !== '-') {
    const { stream, sizeBytes } = openFile(file);
    return { bytes: addAbortSignal(signal, stream), sizeBytes };
  }
  if (data !== undefined && data !== '-') {
    const bytes = Buffer.from(data);
    return { bytes: Readable.from([bytes], { objectMode: true }), sizeBytes: bytes.length };
  }
  return { bytes: addAbortSignal(signal, process.stdin), sizeBytes: undefined };
}
