/**
 * Operations on names that are there: link, unlink, rmdir and rename in all its forms. Times follow
 * POSIX: the directories that change get new times of modification and change, every inode that wins,
 * loses or changes a name a new time of change.
 *
 * A rename over a name keeps that name's entry and lets it mean the other file, so that who reads the
 * directory meanwhile finds the name once.
 */
import { Errno } from './errno.ts';
import { FileMode, isDirectory, isRegular } from './file-mode.ts';
import { InodeNumber, InodeWord } from './inodes.ts';
import { nameError } from './making.ts';
import { ENTRY_SIZE_BYTES, ROOT_SLOT, Touch, type Tree } from './tree.ts';

/** fs.h `RENAME_*`. */
const RenameFlag = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

const RENAME_FLAGS = RenameFlag.NOREPLACE | RenameFlag.EXCHANGE | RenameFlag.WHITEOUT;

/** Links of an inode at most. */
const LINK_COUNT_MAX = 2 ** 31 - 1;

/** What has a name: the directory, the entry in it (-1 when there is none), the file. */
interface Place {
  directory: number;
  name: string;
  entry: number;
  child: number;
}

/** Finds a name, `.` and `..` too. @returns the nodeid with one lookup, or a negative errno */
export function lookup(tree: Tree, parent: number, name: string): number {
  const directory = tree.slotOf(parent);
  if (directory === -1) return -Errno.ESTALE;
  if (!isDirectory(tree.inodes.mode(directory))) return -Errno.ENOTDIR;
  if (name === '.') return tree.addLookup(directory);
  if (name === '..') {
    const above = tree.inodes.parent(directory);
    return tree.inodes.links(directory) === 0 ? -Errno.ENOENT : tree.addLookup(above);
  }
  const error = nameError(name);
  if (error < 0) return error === -Errno.ENAMETOOLONG ? error : -Errno.ENOENT;
  const entry = tree.dentries.find(directory, name);
  return entry === -1 ? -Errno.ENOENT : tree.addLookup(tree.dentries.child(entry));
}

/** Gives back references of the kernel; the root never ends. */
export function forget(tree: Tree, nodeid: number, count: number): void {
  const slot = tree.slotOf(nodeid);
  if (slot === -1 || slot === ROOT_SLOT) return;
  const left = Math.max(0, tree.inodes.number(slot, InodeNumber.LOOKUPS) - count);
  tree.inodes.setNumber(slot, InodeNumber.LOOKUPS, left);
  tree.reap(slot);
}

/** Gives a file one name more. @returns its nodeid with one lookup, or a negative errno */
export function link(tree: Tree, nodeid: number, newParent: number, newName: string): number {
  const slot = tree.slotOf(nodeid);
  if (slot === -1) return -Errno.ESTALE;
  const directory = tree.directoryOf(newParent);
  if (directory < 0) return directory;
  const error = nameError(newName);
  if (error < 0) return error;
  if (tree.dentries.find(directory, newName) !== -1) return -Errno.EEXIST;
  const mode = tree.inodes.mode(slot);
  if (isDirectory(mode)) return -Errno.EPERM;
  const links = tree.inodes.links(slot);
  // A file that lost its last name gets none again, unless it never had one.
  const unnamed = isRegular(mode) && tree.inodes.word(slot, InodeWord.KIN) === 1;
  if (links === 0 && !unnamed) return -Errno.ENOENT;
  if (links >= LINK_COUNT_MAX) return -Errno.EMLINK;
  if (!tree.hasRoom(0, tree.entryBytes(newName))) return -Errno.ENOSPC;
  tree.clock.sample();
  if (links === 0) tree.inodes.setWord(slot, InodeWord.KIN, 0);
  tree.inodes.addLinks(slot, 1);
  tree.addEntry(directory, newName, slot);
  tree.touch(slot, Touch.CHANGE);
  return tree.addLookup(slot);
}

/** Takes a name from a file that is no directory. @returns 0 or a negative errno */
export function unlink(tree: Tree, parent: number, name: string): number {
  const place = placeOf(tree, parent, name);
  if (typeof place === 'number') return place;
  if (place.entry === -1) return -Errno.ENOENT;
  if (isDirectory(tree.inodes.mode(place.child))) return -Errno.EISDIR;
  tree.clock.sample();
  dropEntry(tree, place);
  dropLink(tree, place.child);
  return 0;
}

/** Removes an empty directory. @returns 0 or a negative errno */
export function removeDirectory(tree: Tree, parent: number, name: string): number {
  if (name === '.') return -Errno.EINVAL;
  if (name === '..') return -Errno.ENOTEMPTY;
  const place = placeOf(tree, parent, name);
  if (typeof place === 'number') return place;
  if (place.entry === -1) return -Errno.ENOENT;
  if (!isDirectory(tree.inodes.mode(place.child))) return -Errno.ENOTDIR;
  if (!tree.dentries.isEmpty(place.child)) return -Errno.ENOTEMPTY;
  tree.clock.sample();
  dropEntry(tree, place);
  dropDirectory(tree, place.directory, place.child);
  return 0;
}

/** renameat2(2). @returns 0 or a negative errno */
export function rename(
  tree: Tree,
  parent: number,
  name: string,
  newParent: number,
  newName: string,
  flags: number,
): number {
  if ((flags & ~RENAME_FLAGS) !== 0) return -Errno.EINVAL;
  const exchange = (flags & RenameFlag.EXCHANGE) !== 0;
  if (exchange && flags !== RenameFlag.EXCHANGE) return -Errno.EINVAL;
  const from = placeOf(tree, parent, name);
  if (typeof from === 'number') return from;
  const to = placeOf(tree, newParent, newName);
  if (typeof to === 'number') return to;
  if (from.entry === -1) return -Errno.ENOENT;
  if (exchange && to.entry === -1) return -Errno.ENOENT;
  if ((flags & RenameFlag.NOREPLACE) !== 0 && to.entry !== -1) return -Errno.EEXIST;
  if (isWithin(tree, to.directory, from.child)) return -Errno.EINVAL;
  if (to.child === from.child) return 0;
  tree.clock.sample();
  return exchange ? exchangeFiles(tree, from, to) : moveFile(tree, from, to, flags);
}

function exchangeFiles(tree: Tree, from: Place, to: Place): number {
  if (isWithin(tree, from.directory, to.child)) return -Errno.EINVAL;
  tree.dentries.setChild(from.entry, to.child);
  tree.dentries.setChild(to.entry, from.child);
  changeParent(tree, from.child, from.directory, to.directory);
  changeParent(tree, to.child, to.directory, from.directory);
  markMoved(tree, from, to);
  tree.touch(to.child, Touch.CHANGE);
  return 0;
}

function moveFile(tree: Tree, from: Place, to: Place, flags: number): number {
  const error = to.entry === -1 ? 0 : replaceError(tree, from.child, to.child);
  if (error < 0) return error;
  const whiteout = (flags & RenameFlag.WHITEOUT) !== 0;
  const bytes = to.entry === -1 ? tree.entryBytes(to.name) : 0;
  if (!whiteout && bytes > 0 && !tree.hasRoom(0, bytes - tree.entryBytes(from.name))) {
    return -Errno.ENOSPC;
  }
  if (whiteout && !tree.hasRoom(1, bytes)) return -Errno.ENOSPC;

  if (to.entry === -1) tree.addEntry(to.directory, to.name, from.child);
  else tree.dentries.setChild(to.entry, from.child);
  if (whiteout) tree.dentries.setChild(from.entry, addWhiteout(tree, from.directory));
  else dropEntry(tree, from);
  changeParent(tree, from.child, from.directory, to.directory);
  markMoved(tree, from, to);
  if (to.entry === -1) return 0;
  if (isDirectory(tree.inodes.mode(to.child))) dropDirectory(tree, to.directory, to.child);
  else dropLink(tree, to.child);
  return 0;
}

/** Why a file may not take another's place: 0 or a negative errno. */
function replaceError(tree: Tree, child: number, replaced: number): number {
  const intoDirectory = isDirectory(tree.inodes.mode(replaced));
  if (!isDirectory(tree.inodes.mode(child))) return intoDirectory ? -Errno.EISDIR : 0;
  if (!intoDirectory) return -Errno.ENOTDIR;
  return tree.dentries.isEmpty(replaced) ? 0 : -Errno.ENOTEMPTY;
}

/** What stays where a file of a lower layer of overlayfs is to be hidden: the character device 0, 0. */
function addWhiteout(tree: Tree, directory: number): number {
  const inherits = (tree.inodes.mode(directory) & FileMode.S_ISGID) !== 0;
  const gid = inherits ? tree.inodes.word(directory, InodeWord.GID) : 0;
  const slot = tree.addInode(FileMode.S_IFCHR, 0, gid, 0);
  tree.inodes.setWord(slot, InodeWord.LINKS, 1);
  return slot;
}

function placeOf(tree: Tree, parent: number, name: string): Place | number {
  const directory = tree.directoryOf(parent);
  if (directory < 0) return directory;
  if (name === '.' || name === '..') return -Errno.EBUSY;
  const error = nameError(name);
  if (error < 0) return error;
  const entry = tree.dentries.find(directory, name);
  return { directory, name, entry, child: entry === -1 ? -1 : tree.dentries.child(entry) };
}

/** True when `directory` is `above` or lies below it. */
function isWithin(tree: Tree, directory: number, above: number): boolean {
  let at = directory;
  while (at !== above && at !== ROOT_SLOT) at = tree.inodes.parent(at);
  return at === above;
}

function markMoved(tree: Tree, from: Place, to: Place): void {
  tree.touch(from.directory, Touch.MODIFY | Touch.CHANGE);
  tree.touch(to.directory, Touch.MODIFY | Touch.CHANGE);
  tree.touch(from.child, Touch.CHANGE);
}

/** A directory goes from one to another: so does the link that its `..` is. */
function changeParent(tree: Tree, child: number, from: number, to: number): void {
  if (from === to || !isDirectory(tree.inodes.mode(child))) return;
  tree.inodes.addLinks(from, -1);
  tree.inodes.addLinks(to, 1);
  tree.inodes.setWord(child, InodeWord.KIN, to);
}

function dropEntry(tree: Tree, place: Place): void {
  tree.onEntryGone(place.directory, place.entry);
  tree.dentries.remove(place.entry);
  const size = tree.inodes.size(place.directory) - ENTRY_SIZE_BYTES;
  tree.inodes.setSize(place.directory, size);
  tree.touch(place.directory, Touch.MODIFY | Touch.CHANGE);
}

function dropLink(tree: Tree, slot: number): void {
  tree.inodes.addLinks(slot, -1);
  tree.touch(slot, Touch.CHANGE);
  if (tree.inodes.links(slot) === 0) tree.orphan(slot);
}

function dropDirectory(tree: Tree, parent: number, slot: number): void {
  tree.inodes.addLinks(parent, -1);
  tree.inodes.setWord(slot, InodeWord.LINKS, 0);
  tree.touch(slot, Touch.CHANGE);
  tree.orphan(slot);
}
