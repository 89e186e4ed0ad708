/**
 * Operations that make files: each gives a new inode its owner, mode and access list as its directory
 * wants them, and a name. A set-group-id directory hands on its group, and to directories also the bit;
 * a directory with a default list hands on that list, and then the umask has no say.
 */
import {
  ACL_ACCESS,
  ACL_DEFAULT,
  formatAcl,
  inheritAcl,
  isEquivalentToMode,
  parseAcl,
} from './acl.ts';
import { cellBytesFor } from './byte-cells.ts';
import { Errno } from './errno.ts';
import { ACCESS_BITS, FileMode, isDirectory, isSymbolicLink } from './file-mode.ts';
import { InodeWord } from './inodes.ts';
import type { Caller } from './operations.ts';
import { ENTRY_SIZE_BYTES, type Tree } from './tree.ts';
import { xattrBytesFor } from './xattrs.ts';

/** Bytes of a name (`NAME_MAX`). */
const NAME_LENGTH_MAX = 255;

/** Bytes of the target of a symbolic link (`PATH_MAX` with its NUL). */
const TARGET_LENGTH_MAX = 4095;

/** Types that mknod(2) makes. */
const NODE_TYPES: ReadonlySet<number> = new Set([
  0,
  FileMode.S_IFREG,
  FileMode.S_IFIFO,
  FileMode.S_IFSOCK,
  FileMode.S_IFCHR,
  FileMode.S_IFBLK,
]);

/** What is wrong with a name that is to be made: 0 or a negative errno. The kernel lets none through. */
export function nameError(name: string): number {
  if (name.length === 0) return -Errno.ENOENT;
  if (name.length > NAME_LENGTH_MAX) return -Errno.ENAMETOOLONG;
  if (name === '.' || name === '..') return -Errno.EEXIST;
  return name.includes('/') || name.includes('\0') ? -Errno.EINVAL : 0;
}

/** Makes a file, fifo, socket or device. @returns the nodeid with one lookup, or a negative errno */
export function makeNode(
  tree: Tree,
  caller: Caller,
  parent: number,
  name: string,
  mode: number,
  umask: number,
  rdev: number,
): number {
  const type = mode & FileMode.S_IFMT;
  if (!NODE_TYPES.has(type)) return -Errno.EINVAL;
  const directory = roomForName(tree, parent, name);
  if (directory < 0) return directory;
  const device = type === FileMode.S_IFCHR || type === FileMode.S_IFBLK ? rdev : 0;
  const full = type === 0 ? mode | FileMode.S_IFREG : mode;
  const slot = bear(tree, caller, directory, full, umask, device, tree.entryBytes(name));
  return slot < 0 ? slot : give(tree, directory, name, slot, 1);
}

/** Makes a directory. @returns the nodeid with one lookup, or a negative errno */
export function makeDirectory(
  tree: Tree,
  caller: Caller,
  parent: number,
  name: string,
  mode: number,
  umask: number,
): number {
  const directory = roomForName(tree, parent, name);
  if (directory < 0) return directory;
  const full = (mode & ~FileMode.S_IFMT) | FileMode.S_IFDIR;
  const slot = bear(tree, caller, directory, full, umask, 0, tree.entryBytes(name));
  if (slot < 0) return slot;
  tree.inodes.setWord(slot, InodeWord.KIN, directory);
  tree.inodes.setSize(slot, 2 * ENTRY_SIZE_BYTES);
  tree.inodes.addLinks(directory, 1);
  return give(tree, directory, name, slot, 2);
}

/** Makes a symbolic link. @returns the nodeid with one lookup, or a negative errno */
export function makeSymbolicLink(
  tree: Tree,
  caller: Caller,
  parent: number,
  name: string,
  target: string,
): number {
  if (target.length === 0) return -Errno.ENOENT;
  if (target.length > TARGET_LENGTH_MAX) return -Errno.ENAMETOOLONG;
  const directory = roomForName(tree, parent, name);
  if (directory < 0) return directory;
  const bytes = tree.entryBytes(name) + cellBytesFor(target.length);
  const slot = bear(tree, caller, directory, FileMode.S_IFLNK | ACCESS_BITS, 0, 0, bytes);
  if (slot < 0) return slot;
  tree.inodes.setWord(slot, InodeWord.KIN, tree.cells.put(target));
  tree.inodes.setSize(slot, target.length);
  return give(tree, directory, name, slot, 1);
}

/** Makes a regular file without a name. @returns the nodeid with one lookup, or a negative errno */
export function makeTemporary(
  tree: Tree,
  caller: Caller,
  parent: number,
  mode: number,
  umask: number,
): number {
  const directory = tree.directoryOf(parent);
  if (directory < 0) return directory;
  const full = (mode & ~FileMode.S_IFMT) | FileMode.S_IFREG;
  const slot = bear(tree, caller, directory, full, umask, 0, 0);
  if (slot < 0) return slot;
  tree.inodes.setWord(slot, InodeWord.KIN, 1);
  return tree.addLookup(slot);
}

function roomForName(tree: Tree, parent: number, name: string): number {
  const directory = tree.directoryOf(parent);
  if (directory < 0) return directory;
  const error = nameError(name);
  if (error < 0) return error;
  return tree.dentries.find(directory, name) === -1 ? directory : -Errno.EEXIST;
}

/** Makes the inode. @param bytes - what will be added to it @returns its slot, or a negative errno */
function bear(
  tree: Tree,
  caller: Caller,
  directory: number,
  mode: number,
  umask: number,
  rdev: number,
  bytes: number,
): number {
  const above = tree.inodes.mode(directory);
  const inherits = (above & FileMode.S_ISGID) !== 0;
  const gid = inherits ? tree.inodes.word(directory, InodeWord.GID) : caller.gid;
  const full = inherits && isDirectory(mode) ? mode | FileMode.S_ISGID : mode;
  tree.clock.sample();
  if (!isSymbolicLink(mode) && tree.xattrs.hasAny(directory)) {
    const list = tree.xattrs.get(directory, ACL_DEFAULT);
    const acl = list === undefined ? undefined : parseAcl(list);
    if (list !== undefined && acl !== undefined) {
      const needed = bytes + 2 * xattrBytesFor(ACL_DEFAULT.length, list.length);
      if (!tree.hasRoom(1, needed)) return -Errno.ENOSPC;
      const slot = tree.addInode(inheritAcl(acl, full), caller.uid, gid, rdev);
      if (!isEquivalentToMode(acl)) tree.xattrs.set(slot, ACL_ACCESS, formatAcl(acl));
      if (isDirectory(mode)) tree.xattrs.set(slot, ACL_DEFAULT, list);
      return slot;
    }
  }
  if (!tree.hasRoom(1, bytes)) return -Errno.ENOSPC;
  return tree.addInode(full & ~(umask & ACCESS_BITS), caller.uid, gid, rdev);
}

function give(tree: Tree, directory: number, name: string, slot: number, links: number): number {
  tree.inodes.setWord(slot, InodeWord.LINKS, links);
  tree.addEntry(directory, name, slot);
  return tree.addLookup(slot);
}
