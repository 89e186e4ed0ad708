/**
 * Attributes of inodes: reading them, and setattr but for what a change of size does to the bytes. The
 * kernel has already checked permissions and taken set-group-id from modes that the caller may not
 * give; with its writeback cache it also knows the times of regular files better and sends them.
 */
import { Errno } from './errno.ts';
import { FileMode, isDirectory, isRegular, PERMISSION_BITS } from './file-mode.ts';
import { InodeNumber, InodeWord } from './inodes.ts';
import { AttributeBit, type AttributeChange, type Attributes } from './operations.ts';
import { killCapability, killSetIds, setMode } from './privileges.ts';
import { Touch, type Tree } from './tree.ts';

/**
 * Bytes of a file at most, 8 TiB: more than any pool, and far below where offsets stop being exact.
 */
export const FILE_SIZE_MAX = 2 ** 43;

/** Bits of a change that somebody asked for by name. */
const NAMED_BITS =
  AttributeBit.MODE |
  AttributeBit.UID |
  AttributeBit.GID |
  AttributeBit.SIZE |
  AttributeBit.ATIME |
  AttributeBit.MTIME |
  AttributeBit.ATIME_NOW |
  AttributeBit.MTIME_NOW;

const NANOSECONDS = 1_000_000_000;

/** Seconds that the kernel can hand back: what a float64 counts exactly. */
const SECONDS_MAX = Number.MAX_SAFE_INTEGER;

/** An access time is set again after so long (relatime). */
const ACCESS_TIME_STALE_SECONDS = 24 * 60 * 60;

/** Fills in what stat(2) tells. @returns 0 or a negative errno */
export function attributes(tree: Tree, nodeid: number, into: Attributes): number {
  const slot = tree.slotOf(nodeid);
  if (slot === -1) return -Errno.ESTALE;
  const { inodes } = tree;
  const mode = inodes.mode(slot);
  into.nodeid = nodeid;
  into.mode = mode;
  into.linkCount = inodes.links(slot);
  into.uid = inodes.word(slot, InodeWord.UID);
  into.gid = inodes.word(slot, InodeWord.GID);
  into.rdev = isRegular(mode) ? 0 : inodes.word(slot, InodeWord.RDEV);
  into.size = inodes.size(slot);
  into.blocks = isRegular(mode) ? tree.store.blocks(slot) : 0;
  into.accessSeconds = inodes.number(slot, InodeNumber.ACCESS_SECONDS);
  into.accessNanoseconds = inodes.word(slot, InodeWord.ACCESS_NANOSECONDS);
  into.modifySeconds = inodes.number(slot, InodeNumber.MODIFY_SECONDS);
  into.modifyNanoseconds = inodes.word(slot, InodeWord.MODIFY_NANOSECONDS);
  into.changeSeconds = inodes.number(slot, InodeNumber.CHANGE_SECONDS);
  into.changeNanoseconds = inodes.word(slot, InodeWord.CHANGE_NANOSECONDS);
  return 0;
}

/** Why a change cannot be made: 0 or a negative errno. Nothing was changed. */
export function changeError(tree: Tree, slot: number, change: AttributeChange): number {
  const has = (bit: number): boolean => (change.valid & bit) !== 0;
  if (has(AttributeBit.SIZE)) {
    const mode = tree.inodes.mode(slot);
    if (isDirectory(mode)) return -Errno.EISDIR;
    if (!isRegular(mode)) return -Errno.EINVAL;
    if (!Number.isInteger(change.size) || change.size < 0) return -Errno.EINVAL;
    if (change.size > FILE_SIZE_MAX) return -Errno.EFBIG;
  }
  const times = [
    [AttributeBit.ATIME, change.accessSeconds, change.accessNanoseconds],
    [AttributeBit.MTIME, change.modifySeconds, change.modifyNanoseconds],
    [AttributeBit.CTIME, change.changeSeconds, change.changeNanoseconds],
  ] as const;
  const wrong = times.some(
    ([bit, seconds, nanoseconds]) => has(bit) && !isTime(seconds, nanoseconds),
  );
  return wrong ? -Errno.EINVAL : 0;
}

function isTime(seconds: number, nanoseconds: number): boolean {
  return Math.abs(seconds) <= SECONDS_MAX && nanoseconds >= 0 && nanoseconds < NANOSECONDS;
}

/**
 * Changes everything that `change` names, in the inode. The caller truncates the bytes if the size
 * became less. A truncation sets the time of modification although the size stays, as on tmpfs.
 */
export function applyChange(tree: Tree, slot: number, change: AttributeChange): void {
  const { inodes } = tree;
  const has = (bit: number): boolean => (change.valid & bit) !== 0;
  tree.clock.sample();
  if (has(AttributeBit.UID)) inodes.setWord(slot, InodeWord.UID, change.uid);
  if (has(AttributeBit.GID)) inodes.setWord(slot, InodeWord.GID, change.gid);
  if (has(AttributeBit.MODE)) {
    const type = inodes.mode(slot) & FileMode.S_IFMT;
    setMode(tree, slot, type | (change.mode & PERMISSION_BITS));
  }
  // What names nothing, or its time alone, is chown(2) of no owner and no group, or a write that takes
  // privileges: the kernel strips what says so.
  const nameless = (change.valid & NAMED_BITS) === 0 && !isDirectory(inodes.mode(slot));
  if (nameless || has(AttributeBit.KILL_SUIDGID)) killSetIds(tree, slot);
  if (
    has(AttributeBit.KILL_SUIDGID | AttributeBit.UID | AttributeBit.GID | AttributeBit.SIZE) &&
    !isDirectory(inodes.mode(slot))
  ) {
    killCapability(tree, slot);
  }
  if (has(AttributeBit.SIZE)) {
    inodes.setSize(slot, change.size);
    tree.touch(slot, Touch.MODIFY);
  }
  applyTimes(tree, slot, change);
}

function applyTimes(tree: Tree, slot: number, change: AttributeChange): void {
  const { inodes } = tree;
  const has = (bit: number): boolean => (change.valid & bit) !== 0;
  if (has(AttributeBit.ATIME_NOW)) tree.touch(slot, Touch.ACCESS);
  else if (has(AttributeBit.ATIME)) {
    inodes.setNumber(slot, InodeNumber.ACCESS_SECONDS, change.accessSeconds);
    inodes.setWord(slot, InodeWord.ACCESS_NANOSECONDS, change.accessNanoseconds);
  }
  if (has(AttributeBit.MTIME_NOW)) tree.touch(slot, Touch.MODIFY);
  else if (has(AttributeBit.MTIME)) {
    inodes.setNumber(slot, InodeNumber.MODIFY_SECONDS, change.modifySeconds);
    inodes.setWord(slot, InodeWord.MODIFY_NANOSECONDS, change.modifyNanoseconds);
  }
  if (has(AttributeBit.CTIME)) {
    inodes.setNumber(slot, InodeNumber.CHANGE_SECONDS, change.changeSeconds);
    inodes.setWord(slot, InodeWord.CHANGE_NANOSECONDS, change.changeNanoseconds);
  } else tree.touch(slot, Touch.CHANGE);
}

/** Sets the access time of what was read, as the mount option `relatime` of other file systems does. */
export function touchRead(tree: Tree, slot: number): void {
  const { inodes, clock } = tree;
  clock.sample();
  const access = inodes.number(slot, InodeNumber.ACCESS_SECONDS);
  const nanoseconds = inodes.word(slot, InodeWord.ACCESS_NANOSECONDS);
  const notAfter = (seconds: number, wordOfNanoseconds: number): boolean => {
    const other = inodes.number(slot, seconds);
    return (
      access < other || (access === other && nanoseconds <= inodes.word(slot, wordOfNanoseconds))
    );
  };
  if (
    clock.seconds - access >= ACCESS_TIME_STALE_SECONDS ||
    notAfter(InodeNumber.MODIFY_SECONDS, InodeWord.MODIFY_NANOSECONDS) ||
    notAfter(InodeNumber.CHANGE_SECONDS, InodeWord.CHANGE_NANOSECONDS)
  ) {
    tree.touch(slot, Touch.ACCESS);
  }
}
