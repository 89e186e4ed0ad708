/**
 * The file of the seal key: 32 random bytes that only their user may read, made the first time that
 * something is sealed. Whoever has it opens everything that was sealed with it; without it sealed values
 * are lost. Machines that share sealed objects need the same file.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { makeDirectory } from '../common/directory.ts';
import { MemcloudError } from '../common/errors.ts';
import { SEAL_KEY_SIZE_BYTES, sealKeyOf, type SealKey } from './seal.ts';

/** Where the key is: `MEMCLOUD_SEAL_KEY`, else `memcloud/seal.key` in the user's configuration. */
export function defaultSealKeyFile(): string {
  const { MEMCLOUD_SEAL_KEY, XDG_CONFIG_HOME } = process.env;
  if (MEMCLOUD_SEAL_KEY !== undefined && MEMCLOUD_SEAL_KEY !== '') return MEMCLOUD_SEAL_KEY;
  const base =
    XDG_CONFIG_HOME !== undefined && path.isAbsolute(XDG_CONFIG_HOME)
      ? XDG_CONFIG_HOME
      : path.join(os.homedir(), '.config');
  return path.join(base, 'memcloud', 'seal.key');
}

/**
 * Reads the key of `file`.
 *
 * @param options - `make`: makes the file if there is none. For sealing only: nothing opens with a new key
 * @throws MemcloudError `ERR_OBJECT_SEAL` when there is no key, `ERR_USAGE` when the file is no key or
 *   others may read it, `ERR_NATIVE`
 */
export function loadSealKey(
  file: string = defaultSealKeyFile(),
  options: { readonly make?: boolean } = {},
): SealKey {
  const found = readKey(file);
  if (found !== undefined) return found;
  if (options.make !== true) {
    const message = `there is no seal key at ${file}; copy it from the machine that sealed the value`;
    throw new MemcloudError('ERR_OBJECT_SEAL', message);
  }
  makeKey(file);
  const made = readKey(file);
  if (made === undefined) throw new MemcloudError('ERR_NATIVE', `${file} went as it was made`);
  return made;
}

/** @returns undefined when there is no such file */
function readKey(file: string): SealKey | undefined {
  let descriptor: number;
  try {
    // A FIFO in place of the file would hold a plain open for ever.
    descriptor = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw failed(file, 'be read', cause);
  }
  const bytes = Buffer.alloc(SEAL_KEY_SIZE_BYTES + 1);
  try {
    const facts = fs.fstatSync(descriptor);
    if (!facts.isFile()) throw new MemcloudError('ERR_USAGE', `seal key: ${file} is no file`);
    if ((facts.mode & 0o077) !== 0) {
      const message = `seal key: others may read ${file}; run: chmod 600 ${file}`;
      throw new MemcloudError('ERR_USAGE', message);
    }
    const length = fs.readSync(descriptor, bytes, 0, bytes.length, 0);
    if (length !== SEAL_KEY_SIZE_BYTES) {
      const got = length > SEAL_KEY_SIZE_BYTES ? 'more' : String(length);
      const message = `seal key: expected ${SEAL_KEY_SIZE_BYTES} bytes in ${file}, got ${got}`;
      throw new MemcloudError('ERR_USAGE', message);
    }
    return sealKeyOf(bytes.subarray(0, SEAL_KEY_SIZE_BYTES));
  } catch (error) {
    if (error instanceof MemcloudError) throw error;
    throw failed(file, 'be read', error);
  } finally {
    bytes.fill(0);
    fs.closeSync(descriptor);
  }
}

/** Makes the file whole or not at all; when another process was faster, its key stays. */
function makeKey(file: string): void {
  const next = `${file}.${process.pid}.${crypto.randomBytes(4).toString('hex')}.next`;
  const bytes = crypto.randomBytes(SEAL_KEY_SIZE_BYTES);
  try {
    makeDirectory(path.dirname(file), 0o700);
    writeDurably(next, bytes);
    try {
      fs.linkSync(next, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  } catch (error) {
    throw failed(file, 'be made', error);
  } finally {
    bytes.fill(0);
    fs.rmSync(next, { force: true });
  }
}

/** The key is on disk before anything is sealed with it. */
function writeDurably(file: string, bytes: Uint8Array): void {
  const descriptor = fs.openSync(file, 'wx', 0o600);
  try {
    fs.writeSync(descriptor, bytes);
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

function failed(file: string, what: string, cause: unknown): MemcloudError {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  return new MemcloudError('ERR_NATIVE', `seal key: ${file} cannot ${what} (${code})`, { cause });
}
