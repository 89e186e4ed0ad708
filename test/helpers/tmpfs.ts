/**
 * Room on tmpfs for tests of the provider: a directory that goes away with the test, also when it
 * fails, and looks at backing files that do not go through the mapping under test.
 */
import fs from 'node:fs';
import type { Test } from 'tap';
import { MOUNT, mount, tryUnmount } from '../../common/libc.ts';
import { NativeMemory } from '../../common/native-memory.ts';

/** Bytes of a sealed page, restated. */
export const SEALED = 4112;

/** A fresh directory under /dev/shm, removed at the end of the test. */
export function tmpfsBase(t: Test): string {
  const base = fs.mkdtempSync('/dev/shm/mc-test-');
  const remove = (): void => fs.rmSync(base, { recursive: true, force: true });
  // Also at exit: a teardown that throws keeps the ones before it from running.
  process.once('exit', remove);
  t.teardown(() => {
    process.off('exit', remove);
    remove();
  });
  return base;
}

/** A fresh tmpfs of `sizeBytes`, or undefined where the test may not mount. */
export function smallTmpfs(t: Test, sizeBytes: number): string | undefined {
  const target = fs.mkdtempSync('/tmp/mc-test-mount-');
  try {
    mount({ source: 'test', target, type: 'tmpfs', flags: 0, data: `size=${sizeBytes}` });
  } catch {
    fs.rmdirSync(target);
    return undefined;
  }
  t.teardown(() => {
    tryUnmount(target, MOUNT.MNT_DETACH);
    fs.rmdirSync(target);
  });
  return target;
}

/** Memory for `pageCount` sealed pages, freed at the end of the test. */
export function pageBuffer(t: Test, pageCount: number): NativeMemory {
  const memory = new NativeMemory(pageCount * SEALED);
  t.teardown(() => memory.free());
  return memory;
}

/** Bytes that the file system has allocated to a file. */
export function allocatedBytes(file: string): number {
  return fs.statSync(file).blocks * 512;
}

/** A part of a file, read by a system call. */
export function fileBytes(file: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const fd = fs.openSync(file, 'r');
  fs.readSync(fd, bytes, 0, length, offset);
  fs.closeSync(fd);
  return bytes;
}

/** True when every byte is zero. */
export function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}
