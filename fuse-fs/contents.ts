/**
 * Open files and their bytes. This keeps sizes, times and set-user-id bits; the store keeps the bytes. The
 * store is never asked to read behind the size, and a file that grows by truncation alone costs it
 * nothing. What the kernel caches it writes back with sizes of its own; here a write behind the end
 * makes the file longer either way.
 */
import { applyChange, changeError, FILE_SIZE_MAX, touchRead } from './attributes.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { Errno } from './errno.ts';
import { isDirectory, isRegular } from './file-mode.ts';
import { InodeWord } from './inodes.ts';
import type { IoVectors } from './io-vectors.ts';
import type { AttributeChange, FileCompletionSink } from './operations.ts';
import { AttributeBit, NOT_IN_PLACE } from './operations.ts';
import { PendingCalls, PendingKind } from './pending-calls.ts';
import { killCapability, killSetIds } from './privileges.ts';
import { RecordTable } from './record-table.ts';
import { Touch, type Tree } from './tree.ts';

/** falloc.h `FALLOC_FL_*`: what tmpfs has, and ZERO_RANGE. */
const AllocateFlag = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 } as const;

/** unistd.h. */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Open files at most; the kernel's own limit is less. */
const HANDLE_COUNT_MAX = 2 ** 22;

/** fcntl.h: the bits of the flags of open(2) that say what the handle is for; 0 is reading alone. */
const O_ACCMODE = 3;

/** The words of a handle. */
const HandleWord = { SLOT: 0, WRITES: 1, LINK: 2 } as const;
const HANDLE_WORDS = 4;

/** See the top of the file. */
export class Contents {
  readonly #tree: Tree;
  readonly #sink: FileCompletionSink;
  /** The slot of each open file, plus one. */
  readonly #handles = new RecordTable(HANDLE_WORDS, HandleWord.LINK);
  readonly #pending: PendingCalls;
  #wasOpened = false;

  /** @param sink - takes the ends of calls */
  constructor(tree: Tree, sink: FileCompletionSink) {
    this.#tree = tree;
    this.#sink = sink;
    this.#pending = new PendingCalls(tree.inodes, sink, (slot, offset, length, newSize) =>
      this.#reserve(slot, offset, length, newSize),
    );
  }

  /** The store's calls end here. */
  get storeSink(): FileCompletionSink {
    return this.#pending;
  }

  /** True when a file has ever been opened: there are transports that do not tell. */
  get wasOpened(): boolean {
    return this.#wasOpened;
  }

  /** @returns fh, or a negative errno */
  open(nodeid: number, flags: number): number {
    const slot = this.#fileOf(nodeid);
    if (slot < 0) return slot;
    if (this.#handles.count >= HANDLE_COUNT_MAX) return -Errno.ENOMEM;
    this.#wasOpened = true;
    const writes = (flags & O_ACCMODE) === 0 ? 0 : 1;
    const { inodes } = this.#tree;
    inodes.setWord(slot, InodeWord.OPENS, inodes.word(slot, InodeWord.OPENS) + 1);
    inodes.setWord(slot, InodeWord.RDEV, inodes.word(slot, InodeWord.RDEV) + writes);
    const handle = this.#handles.allocate();
    this.#handles.setWord(handle, HandleWord.SLOT, slot + 1);
    this.#handles.setWord(handle, HandleWord.WRITES, writes);
    return handle + 1;
  }

  /** Ends a handle. */
  release(fh: number): void {
    if (!this.#handles.isMapped(fh - 1)) return;
    const slot = this.#handles.word(fh - 1, HandleWord.SLOT) - 1;
    if (slot === -1) return;
    const writes = this.#handles.word(fh - 1, HandleWord.WRITES);
    this.#handles.free(fh - 1);
    const { inodes } = this.#tree;
    inodes.setWord(slot, InodeWord.OPENS, inodes.word(slot, InodeWord.OPENS) - 1);
    inodes.setWord(slot, InodeWord.RDEV, inodes.word(slot, InodeWord.RDEV) - writes);
    this.#tree.reap(slot);
  }

  /** Ends every handle. */
  releaseAll(): void {
    for (let fh = 1; fh <= this.#handles.slotEnd; fh += 1) this.release(fh);
  }

  /** See `FileOperations.changeAttributes`. */
  change(tag: number, nodeid: number, change: AttributeChange): void {
    const slot = this.#tree.slotOf(nodeid);
    const error = slot === -1 ? -Errno.ESTALE : changeError(this.#tree, slot, change);
    if (error < 0) {
      this.#sink.onFileDone(tag, error);
      return;
    }
    const size = this.#tree.inodes.size(slot);
    applyChange(this.#tree, slot, change);
    // Of equal size too: room promised behind the end goes.
    if ((change.valid & AttributeBit.SIZE) !== 0 && change.size <= size) {
      this.#tree.store.truncate(this.#pending.through(tag), slot, change.size);
    } else this.#sink.onFileDone(tag, 0);
  }

  /** See `FileOperations.read`. */
  read(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void {
    const slot = this.#fileOf(nodeid);
    const left = this.#readable(slot, offset, length);
    if (left <= 0) {
      this.#sink.onFileDone(tag, left);
      return;
    }
    touchRead(this.#tree, slot);
    this.#tree.store.read(this.#pending.through(tag), slot, offset, left, into, intoOffset);
  }

  /** See `FileOperations.readInPlace`. */
  readInPlace(nodeid: number, offset: number, length: number, into: IoVectors): number {
    const slot = this.#fileOf(nodeid);
    const left = this.#readable(slot, offset, length);
    if (left <= 0) return left;
    if (!this.#tree.store.locate(slot, offset, left, into)) return NOT_IN_PLACE;
    touchRead(this.#tree, slot);
    return left;
  }

  /** See `FileOperations.write`. */
  write(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    killPrivileges: boolean,
    fromCache: boolean,
  ): void {
    const slot = this.#fileOf(nodeid);
    const error = slot < 0 ? slot : growError(offset, length);
    if (error < 0 || length === 0) {
      this.#sink.onFileDone(tag, error);
      return;
    }
    if (!fromCache) this.#touchWrite(slot, killPrivileges);
    else if (killPrivileges) killSetIds(this.#tree, slot);
    const { inodes, store } = this.#tree;
    const size = inodes.size(slot);
    const end = offset + length;
    const storeTag = end > size ? this.#grow(tag, slot, size, end) : this.#pending.through(tag);
    store.write(storeTag, slot, offset, length, from, fromOffset, size);
  }

  /** See `FileOperations.allocate`. */
  allocate(
    tag: number,
    nodeid: number,
    mode: number,
    offset: number,
    length: number,
    killPrivileges: boolean,
  ): void {
    const slot = this.#fileOf(nodeid);
    const error = slot < 0 ? slot : allocateError(mode, offset, length);
    if (error < 0) {
      this.#sink.onFileDone(tag, error);
      return;
    }
    const { inodes, store } = this.#tree;
    const size = inodes.size(slot);
    const keeps = (mode & AllocateFlag.KEEP_SIZE) !== 0;
    const newSize = keeps ? size : Math.max(size, offset + length);
    if ((mode & AllocateFlag.PUNCH_HOLE) !== 0) {
      this.#touchWrite(slot, killPrivileges);
      store.punch(this.#pending.through(tag), slot, offset, length);
    } else if ((mode & AllocateFlag.ZERO_RANGE) !== 0) {
      this.#touchWrite(slot, killPrivileges);
      const { ZERO } = PendingKind;
      const kept = this.#pending.keep(tag, slot, ZERO, size, newSize, offset, length);
      store.punch(kept, slot, offset, length);
    } else {
      const end = this.#reserve(slot, offset, length, newSize);
      if (end === 0) this.#touchWrite(slot, killPrivileges);
      this.#sink.onFileDone(tag, end);
    }
  }

  /** See `FileOperations.copyRange`. */
  copyRange(
    tag: number,
    nodeid: number,
    offset: number,
    newNodeid: number,
    newOffset: number,
    length: number,
    killPrivileges: boolean,
  ): void {
    const slot = this.#fileOf(nodeid);
    const newSlot = this.#fileOf(newNodeid);
    let error = Math.min(slot, newSlot, 0);
    if (error === 0) error = rangeError(offset, length);
    const { inodes, store } = this.#tree;
    const left = error < 0 ? 0 : Math.min(length, inodes.size(slot) - offset);
    if (left > 0) error = growError(newOffset, left);
    const overlaps = slot === newSlot && offset < newOffset + left && newOffset < offset + left;
    if (error === 0 && left > 0 && overlaps) error = -Errno.EINVAL;
    if (error < 0 || left <= 0) {
      this.#sink.onFileDone(tag, error);
      return;
    }
    touchRead(this.#tree, slot);
    this.#touchWrite(newSlot, killPrivileges);
    const size = inodes.size(newSlot);
    const end = newOffset + left;
    const storeTag = end > size ? this.#grow(tag, newSlot, size, end) : this.#pending.through(tag);
    store.copy(storeTag, slot, offset, newSlot, newOffset, left);
  }

  /** See `FileOperations.seek`. */
  seek(nodeid: number, offset: number, whence: number): number {
    const slot = this.#fileOf(nodeid);
    if (slot < 0) return slot;
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -Errno.EINVAL;
    const { inodes, store } = this.#tree;
    const size = inodes.size(slot);
    if (offset < 0 || offset >= size) return -Errno.ENXIO;
    if (whence === SEEK_HOLE) return store.seekHole(slot, offset, size);
    const found = store.seekData(slot, offset, size);
    return found >= size ? -Errno.ENXIO : found;
  }

  /** See `FileOperations.mayBeDirty`. */
  mayBeDirty(nodeid: number): boolean {
    const slot = this.#fileOf(nodeid);
    return slot >= 0 && this.#tree.inodes.word(slot, InodeWord.RDEV) > 0;
  }

  /** See `FileOperations.sync`; directories too. */
  sync(tag: number, nodeid: number): void {
    if (this.#tree.slotOf(nodeid) === -1) this.#sink.onFileDone(tag, -Errno.ESTALE);
    else this.#tree.store.sync(this.#pending.through(tag));
  }

  /** The slot of a regular file, or a negative errno. */
  #fileOf(nodeid: number): number {
    const slot = this.#tree.slotOf(nodeid);
    if (slot === -1) return -Errno.ESTALE;
    const mode = this.#tree.inodes.mode(slot);
    if (isRegular(mode)) return slot;
    return isDirectory(mode) ? -Errno.EISDIR : -Errno.EINVAL;
  }

  /** Bytes of the range that a read brings, 0 behind the end, or a negative errno. @param slot - or one already */
  #readable(slot: number, offset: number, length: number): number {
    const error = slot < 0 ? slot : rangeError(offset, length);
    if (error < 0) return error;
    return Math.max(0, Math.min(length, this.#tree.inodes.size(slot) - offset));
  }

  #touchWrite(slot: number, killPrivileges: boolean): void {
    this.#tree.clock.sample();
    this.#tree.touch(slot, Touch.MODIFY | Touch.CHANGE);
    killCapability(this.#tree, slot);
    if (killPrivileges) killSetIds(this.#tree, slot);
  }

  /** Lets a file grow for a call that may fail. @returns the store's tag of the call */
  #grow(tag: number, slot: number, size: number, newSize: number): number {
    this.#tree.inodes.setSize(slot, newSize);
    return this.#pending.keep(tag, slot, PendingKind.GROW, size, newSize, 0, 0);
  }

  #reserve(slot: number, offset: number, length: number, newSize: number): number {
    const end = this.#tree.store.reserve(slot, offset, length);
    const { inodes } = this.#tree;
    if (end === 0 && newSize > inodes.size(slot)) inodes.setSize(slot, newSize);
    return end;
  }
}

/** What is wrong with a range: 0 or a negative errno. */
function rangeError(offset: number, length: number): number {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  return whole && offset >= 0 && length >= 0 ? 0 : -Errno.EINVAL;
}

/** What is wrong with a range that is to be written. */
function growError(offset: number, length: number): number {
  const error = rangeError(offset, length);
  return error === 0 && offset + length > FILE_SIZE_MAX ? -Errno.EFBIG : error;
}

function allocateError(mode: number, offset: number, length: number): number {
  const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = AllocateFlag;
  if ((mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE)) !== 0) return -Errno.EOPNOTSUPP;
  const punches = (mode & PUNCH_HOLE) !== 0;
  if (punches && mode !== (PUNCH_HOLE | KEEP_SIZE)) return -Errno.EOPNOTSUPP;
  if (length === 0) return -Errno.EINVAL;
  const error = rangeError(offset, length);
  return error < 0 || punches ? error : growError(offset, length);
}
