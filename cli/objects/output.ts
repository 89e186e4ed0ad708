/**
 * Where the bytes of a value go: stdout as they are, or a file. A terminal is neither: a value is
 * somebody else's bytes, so there its control characters are shown and not obeyed.
 */
import fs from 'node:fs';
import path from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { MemcloudError } from '../../common/errors.ts';
import { note } from '../output.ts';

/** Replaces what a terminal would obey; lines and tabs stay. */
function visible(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]|\p{Cf}/gu, '?');
}

function write(stream: NodeJS.WriteStream, bytes: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

async function toTerminal(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const decoder = new StringDecoder('utf8');
  let changed = false;
  let last = '\n';
  const show = async (text: string): Promise<void> => {
    if (text === '') return;
    const safe = visible(text);
    changed ||= safe !== text;
    last = safe;
    await write(process.stdout, safe);
  };
  for await (const chunk of bytes) await show(decoder.write(Buffer.from(chunk)));
  await show(decoder.end());
  if (!last.endsWith('\n')) note('');
  if (changed)
    note('memcloud: control characters are shown as ?; for the bytes: -o FILE, or a pipe');
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let from = 0; from < bytes.length;) from += fs.writeSync(fd, bytes, from);
}

/** Beside its place first, so that a download that fails leaves what was there. */
async function toFile(file: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const there = fs.statSync(file, { throwIfNoEntry: false });
  const isPlain = there === undefined || there.isFile();
  const target = there?.isFile() === true ? fs.realpathSync(file) : file;
  const place = isPlain
    ? path.join(path.dirname(target), `.${path.basename(target)}.${process.pid}.part`)
    : target;
  const fd = fs.openSync(place, isPlain ? 'wx' : 'w', there?.mode ?? 0o666);
  try {
    try {
      for await (const chunk of bytes) writeAll(fd, chunk);
    } finally {
      fs.closeSync(fd);
    }
    if (isPlain) fs.renameSync(place, target);
  } catch (error) {
    if (isPlain) fs.rmSync(place, { force: true });
    throw error;
  }
}

/**
 * Writes a value to where it was asked for.
 *
 * @param file - undefined or `-`: stdout
 * @throws MemcloudError `ERR_NATIVE` when the file cannot be written; what `bytes` throws
 */
export async function writeValue(
  file: string | undefined,
  bytes: AsyncIterable<Uint8Array>,
): Promise<void> {
  try {
    if (file !== undefined && file !== '-') return await toFile(file, bytes);
    if (process.stdout.isTTY) return await toTerminal(bytes);
    for await (const chunk of bytes) await write(process.stdout, chunk);
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (error instanceof MemcloudError || code === undefined || syscall === undefined) throw error;
    throw new MemcloudError('ERR_NATIVE', `cannot write ${file ?? 'stdout'}: ${code}`, {
      cause: error,
    });
  }
}
