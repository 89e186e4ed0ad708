/**
 * Replies to the kernel, values to bytes: `struct fuse_out_header`, then one structure, or data. All
 * functions write into memory of the caller, as words of four bytes, and make no object. `at` is always
 * a word's index, so byte offset / 4; the caller sees to it that there is room.
 */
import { CACHE_VALID_SECONDS, FuseOutSize } from './constants.ts';
import type { Attributes, FileSystemStatistics } from './operations.ts';

/** `st_blksize`: what programs should write at once. */
const BLOCK_SIZE_BYTES = 4096;
const NAME_SIZE_MAX_BYTES = 255;
const TWO_32 = 2 ** 32;

/** A whole number, also a negative one (two's complement), as 64 bits. */
export function encodeU64(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = Math.floor(value / TWO_32);
}

/**
 * `struct fuse_out_header`.
 *
 * @param length - of the whole reply, bytes
 * @param error - 0 or a negative errno (or a notify code, with `unique` 0)
 */
export function encodeOutHeader(
  words: Uint32Array,
  at: number,
  length: number,
  error: number,
  uniqueLow: number,
  uniqueHigh: number,
): void {
  words[at] = length;
  words[at + 1] = error;
  words[at + 2] = uniqueLow;
  words[at + 3] = uniqueHigh;
}

/** `struct fuse_attr`. */
function encodeAttributes(words: Uint32Array, at: number, attributes: Attributes): void {
  encodeU64(words, at, attributes.nodeid);
  encodeU64(words, at + 2, attributes.size);
  encodeU64(words, at + 4, attributes.blocks);
  encodeU64(words, at + 6, attributes.accessSeconds);
  encodeU64(words, at + 8, attributes.modifySeconds);
  encodeU64(words, at + 10, attributes.changeSeconds);
  words[at + 12] = attributes.accessNanoseconds;
  words[at + 13] = attributes.modifyNanoseconds;
  words[at + 14] = attributes.changeNanoseconds;
  words[at + 15] = attributes.mode;
  words[at + 16] = attributes.linkCount;
  words[at + 17] = attributes.uid;
  words[at + 18] = attributes.gid;
  words[at + 19] = attributes.rdev;
  words[at + 20] = BLOCK_SIZE_BYTES;
  words[at + 21] = 0;
}

/** `struct fuse_attr_out`. */
export function encodeAttrOut(words: Uint32Array, at: number, attributes: Attributes): void {
  encodeU64(words, at, CACHE_VALID_SECONDS);
  words[at + 2] = 0;
  words[at + 3] = 0;
  encodeAttributes(words, at + 4, attributes);
}

/** `struct fuse_entry_out` of a name that is there. */
export function encodeEntryOut(
  words: Uint32Array,
  at: number,
  attributes: Attributes,
  generation: number,
): void {
  encodeU64(words, at, attributes.nodeid);
  encodeU64(words, at + 2, generation);
  encodeU64(words, at + 4, CACHE_VALID_SECONDS);
  encodeU64(words, at + 6, CACHE_VALID_SECONDS);
  words[at + 8] = 0;
  words[at + 9] = 0;
  encodeAttributes(words, at + 10, attributes);
}

/** `struct fuse_entry_out` of a name that is not there (`nodeid` 0), for the kernel to remember. */
export function encodeNegativeEntryOut(words: Uint32Array, at: number): void {
  words.fill(0, at, at + FuseOutSize.fuse_entry_out / 4);
  encodeU64(words, at + 4, CACHE_VALID_SECONDS);
}

/** `struct fuse_entry_out` that says nothing of the node, for `.` and `..` in READDIRPLUS. */
export function encodeEmptyEntryOut(words: Uint32Array, at: number): void {
  words.fill(0, at, at + FuseOutSize.fuse_entry_out / 4);
}

/** `struct fuse_open_out`. @param flags - `FOPEN_*` */
export function encodeOpenOut(words: Uint32Array, at: number, fh: number, flags: number): void {
  encodeU64(words, at, fh);
  words[at + 2] = flags;
  words[at + 3] = 0;
}

/** `struct fuse_write_out` and `struct fuse_getxattr_out`: a size of 32 bits. */
export function encodeSizeOut(words: Uint32Array, at: number, size: number): void {
  words[at] = size;
  words[at + 1] = 0;
}

/** `struct fuse_statfs_out`. */
export function encodeStatfsOut(
  words: Uint32Array,
  at: number,
  statistics: FileSystemStatistics,
): void {
  words.fill(0, at, at + FuseOutSize.fuse_statfs_out / 4);
  encodeU64(words, at, statistics.blockCount);
  encodeU64(words, at + 2, statistics.freeBlockCount);
  encodeU64(words, at + 4, statistics.freeBlockCount);
  encodeU64(words, at + 6, statistics.inodeCount);
  encodeU64(words, at + 8, statistics.freeInodeCount);
  words[at + 10] = BLOCK_SIZE_BYTES;
  words[at + 11] = NAME_SIZE_MAX_BYTES;
  words[at + 12] = BLOCK_SIZE_BYTES;
}

/** What `struct fuse_init_out` says; see negotiation.ts. */
export interface InitOut {
  /** Protocol version. */
  readonly major: number;
  /** Protocol version. */
  readonly minor: number;
  /** Bytes. */
  readonly maxReadahead: number;
  /** `FuseInit` bits. */
  readonly flags: number;
  /** `FuseInit2` bits. */
  readonly flags2: number;
  /** Requests under way for nobody in particular, at most. */
  readonly maxBackground: number;
  /** From so many of them on the kernel counts us as congested. */
  readonly congestionThreshold: number;
  /** Bytes of a write at most. */
  readonly maxWrite: number;
  /** Nanoseconds between two times that differ. */
  readonly timeGranularity: number;
  /** Pages of a request at most. */
  readonly maxPages: number;
}

/** `struct fuse_init_out`. */
export function encodeInitOut(words: Uint32Array, at: number, init: InitOut): void {
  words.fill(0, at, at + FuseOutSize.fuse_init_out / 4);
  words[at] = init.major;
  words[at + 1] = init.minor;
  words[at + 2] = init.maxReadahead;
  words[at + 3] = init.flags;
  words[at + 4] = init.maxBackground | (init.congestionThreshold << 16);
  words[at + 5] = init.maxWrite;
  words[at + 6] = init.timeGranularity;
  words[at + 7] = init.maxPages;
  words[at + 8] = init.flags2;
}
