/**
 * Writes a cpio archive in the "new ASCII" format, the one that the kernel unpacks as an initramfs.
 * Pure: entries in, bytes out. Folders on the way to an entry are made when no entry names them.
 * Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.
 */

/** One member of the archive. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly path: string;
  /** Type and permission bits, as in `st_mode`. */
  readonly mode: number;
  /** Content of a file, target of a symbolic link; empty for a folder. */
  readonly data: Uint8Array;
}

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const HEADER_SIZE_BYTES = 110;
const TRAILER = 'TRAILER!!!';

/** A regular file. */
export function cpioFile(path: string, data: Uint8Array | string, permissions = 0o644): CpioEntry {
  return { path: trim(path), mode: S_IFREG | permissions, data: Buffer.from(data) };
}

/** A symbolic link. */
export function cpioLink(path: string, target: string): CpioEntry {
  return { path: trim(path), mode: S_IFLNK | 0o777, data: Buffer.from(target) };
}

/** A folder. */
export function cpioFolder(path: string): CpioEntry {
  return { path: trim(path), mode: S_IFDIR | 0o755, data: new Uint8Array(0) };
}

/** The archive of the entries, in their order, each after its folders. */
export function encodeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  const made = new Set<string>();
  let inode = 1;
  const append = (entry: CpioEntry): void => {
    made.add(entry.path);
    parts.push(...member(entry, inode++));
  };
  for (const entry of entries) {
    for (const folder of foldersOf(entry.path)) if (!made.has(folder)) append(cpioFolder(folder));
    if (entry.mode >> 12 !== S_IFDIR >> 12 || !made.has(entry.path)) append(entry);
  }
  parts.push(...member({ path: TRAILER, mode: 0, data: new Uint8Array(0) }, 0));
  return Buffer.concat(parts);
}

function foldersOf(path: string): string[] {
  const names = path.split('/').slice(0, -1);
  return names.map((_, index) => names.slice(0, index + 1).join('/'));
}

function member(entry: CpioEntry, inode: number): Uint8Array[] {
  const name = Buffer.from(`${entry.path}\0`);
  const linkCount = entry.mode >> 12 === S_IFDIR >> 12 ? 2 : 1;
  const fields = [
    inode,
    entry.mode,
    0,
    0,
    linkCount,
    0,
    entry.data.length,
    0,
    0,
    0,
    0,
    name.length,
  ];
  const numbers = [...fields, 0].map((value) => value.toString(16).padStart(8, '0'));
  const header = Buffer.from(`070701${numbers.join('')}`);
  return [
    header,
    name,
    padding(HEADER_SIZE_BYTES + name.length),
    entry.data,
    padding(entry.data.length),
  ];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}

function trim(path: string): string {
  return path.replace(/^\/+/, '');
}
