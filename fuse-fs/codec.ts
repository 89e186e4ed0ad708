/**
 * Requests of the kernel, bytes to values. A request is `struct fuse_in_header`, then one structure of
 * fixed size for most opcodes, then names that end with NUL, or data. {@link FuseRequest} is a reader
 * that is set on one request after the other and makes no object but the strings of names.
 *
 * Every decoder is total: it checks the exact length first, then ranges, and returns 0 or a negative
 * errno; fields are valid only after 0. Numbers of 64 bits become numbers once, here: places to read
 * from that lie beyond 2^53 - 1 count as 2^53 - 1 (no file is so long, so the answer is the same), places
 * to write to are refused with `EFBIG`.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import {
  FuseInSize,
  NAME_SIZE_MAX_BYTES,
  TARGET_SIZE_MAX_BYTES,
  TRANSFER_SIZE_MAX_BYTES,
  XATTR_NAME_SIZE_MAX_BYTES,
  XATTR_VALUE_SIZE_MAX_BYTES,
} from './constants.ts';
import { Errno } from './errno.ts';
import type { InitIn } from './negotiation.ts';
import { emptyChange, type AttributeChange, type Caller } from './operations.ts';

/** Memory that requests are read into; `words[i]` is the four bytes at `bytes[4 * i]`. */
export interface RequestBuffer extends NativeBuffer {
  /** The bytes again. */
  readonly words: Uint32Array;
}

const TWO_32 = 2 ** 32;
/** High words below this make numbers below 2^53. */
const HIGH_WORD_END = 2 ** 21;
const SLASH = 47;
const DOT = 46;
const NANOSECONDS_MAX = 999_999_999;

/** See the top of the file. */
export class FuseRequest {
  /** True when {@link FuseRequest.begin} found a header, so that there is a `unique` to answer. */
  answerable = false;
  /** `fuse_in_header.opcode`. */
  opcode = 0;
  /** `fuse_in_header.unique`, bits 0 to 31. */
  uniqueLow = 0;
  /** `fuse_in_header.unique`, bits 32 to 63. */
  uniqueHigh = 0;
  /** `fuse_in_header.nodeid`. */
  nodeid = 0;
  /** Who asks. */
  readonly caller: Caller = { uid: 0, gid: 0, pid: 0 };
  /** A handle. */
  fh = 0;
  /** A place in a file, or a cookie of a directory; `off_in` of a copy. */
  offset = 0;
  /** Bytes asked for or brought. */
  length = 0;
  /** `flags` of the structure, whatever they mean there; `whence` of lseek. */
  flags = 0;
  /** `open_flags`, `write_flags`, `setxattr_flags`. */
  moreFlags = 0;
  /** File mode, or mode of fallocate. */
  mode = 0;
  /** The caller's umask. */
  umask = 0;
  /** Device number. */
  rdev = 0;
  /** The second node: a rename's directory, a link's source, a copy's target. */
  otherNodeid = 0;
  /** Where a copy goes. */
  otherOffset = 0;
  /** The (first) name, latin1. */
  name = '';
  /** The second name, the target of a symbolic link, or the value of an attribute, latin1. */
  text = '';
  /** Where the data of a write begins in the buffer. */
  dataAt = 0;
  /** What setattr is to change. */
  readonly change: AttributeChange = emptyChange();

  #buffer: RequestBuffer | undefined;
  #words: Uint32Array = new Uint32Array(0);
  #bodyAt = 0;
  #end = 0;

  /**
   * Reads the header.
   *
   * @param buffer - borrowed until the next call
   * @param at - where the request begins, a multiple of 8
   * @param length - what the kernel's read(2) returned
   * @returns 0, or `-EINVAL`; {@link FuseRequest.answerable} tells whether the header came at all
   */
  begin(buffer: RequestBuffer, at: number, length: number): number {
    this.opcode = this.uniqueLow = this.uniqueHigh = this.nodeid = 0;
    this.answerable = length >= FuseInSize.fuse_in_header;
    this.#buffer = buffer;
    this.#words = buffer.words;
    this.#bodyAt = at + FuseInSize.fuse_in_header;
    this.#end = at + length;
    if (!this.answerable) return -Errno.EINVAL;
    this.opcode = this.#u32(at + 4);
    this.uniqueLow = this.#u32(at + 8);
    this.uniqueHigh = this.#u32(at + 12);
    this.caller.uid = this.#u32(at + 24);
    this.caller.gid = this.#u32(at + 28);
    this.caller.pid = this.#u32(at + 32);
    if (this.#u32(at) !== length) return -Errno.EINVAL;
    // Extensions lie at the end; we negotiate none.
    this.#end -= 8 * (this.#u32(at + 36) & 0xffff);
    if (this.#end < this.#bodyAt) return -Errno.EINVAL;
    this.nodeid = this.#u64(at + 16);
    return this.nodeid < 0 ? -Errno.ESTALE : 0;
  }

  /** The memory that holds the request in hand. There is one after {@link FuseRequest.begin}. */
  get buffer(): RequestBuffer {
    return this.#buffer as RequestBuffer;
  }

  /** `LOOKUP`, `UNLINK`, `RMDIR`: one name. */
  decodeName(): number {
    return this.#names(0, 1);
  }

  /** `FORGET`: `length` is the count. */
  decodeForget(): number {
    if (this.#bodySize() !== FuseInSize.fuse_forget_in) return -Errno.EINVAL;
    this.length = this.#saturated(this.#bodyAt);
    return 0;
  }

  /** `BATCH_FORGET`: `length` is the number of items; see {@link FuseRequest.decodeForgetItem}. */
  decodeBatchForget(): number {
    const size = this.#bodySize();
    if (size < FuseInSize.fuse_batch_forget_in) return -Errno.EINVAL;
    this.length = this.#u32(this.#bodyAt);
    const expected = FuseInSize.fuse_batch_forget_in + this.length * FuseInSize.fuse_forget_one;
    return size === expected ? 0 : -Errno.EINVAL;
  }

  /** One item of `BATCH_FORGET`: `otherNodeid` and `length`. The caller keeps `index` below the count. */
  decodeForgetItem(index: number): void {
    const at = this.#bodyAt + FuseInSize.fuse_batch_forget_in + index * FuseInSize.fuse_forget_one;
    this.otherNodeid = this.#saturated(at);
    this.length = this.#saturated(at + 8);
  }

  /** `GETATTR`. */
  decodeGetAttributes(): number {
    return this.#bodySize() === FuseInSize.fuse_getattr_in ? 0 : -Errno.EINVAL;
  }

  /** `SETATTR`: `change`. */
  decodeSetAttributes(): number {
    if (this.#bodySize() !== FuseInSize.fuse_setattr_in) return -Errno.EINVAL;
    const at = this.#bodyAt;
    const { change } = this;
    change.valid = this.#u32(at);
    change.mode = this.#u32(at + 68);
    change.uid = this.#u32(at + 76);
    change.gid = this.#u32(at + 80);
    change.size = this.#u64(at + 16);
    change.accessSeconds = this.#seconds(at + 32);
    change.modifySeconds = this.#seconds(at + 40);
    change.changeSeconds = this.#seconds(at + 48);
    change.accessNanoseconds = this.#u32(at + 56);
    change.modifyNanoseconds = this.#u32(at + 60);
    change.changeNanoseconds = this.#u32(at + 64);
    if (change.size < 0) return -Errno.EFBIG;
    if (
      change.accessNanoseconds > NANOSECONDS_MAX ||
      change.modifyNanoseconds > NANOSECONDS_MAX ||
      change.changeNanoseconds > NANOSECONDS_MAX
    ) {
      return -Errno.EINVAL;
    }
    return 0;
  }

  /** `READLINK`, `STATFS`, `DESTROY`: nothing. */
  decodeNothing(): number {
    return this.#bodySize() === 0 ? 0 : -Errno.EINVAL;
  }

  /** `SYMLINK`: `name`, and the target in `text`. */
  decodeSymlink(): number {
    const nameEnd = this.#nameEnd(this.#bodyAt);
    if (nameEnd < 0) return nameEnd;
    const at = nameEnd + 1;
    const size = this.#end - 1 - at;
    if (size < 0 || this.#byte(this.#end - 1) !== 0) return -Errno.EINVAL;
    if (size === 0) return -Errno.ENOENT;
    if (size > TARGET_SIZE_MAX_BYTES) return -Errno.ENAMETOOLONG;
    if (this.#find(0, at) !== this.#end - 1) return -Errno.EINVAL;
    this.name = this.#string(this.#bodyAt, nameEnd);
    this.text = this.#string(at, this.#end - 1);
    return 0;
  }

  /** `MKNOD`: `mode`, `rdev`, `umask`, `name`. */
  decodeMakeNode(): number {
    const result = this.#names(FuseInSize.fuse_mknod_in, 1);
    if (result !== 0) return result;
    this.mode = this.#u32(this.#bodyAt);
    this.rdev = this.#u32(this.#bodyAt + 4);
    this.umask = this.#u32(this.#bodyAt + 8);
    return 0;
  }

  /** `MKDIR`: `mode`, `umask`, `name`. */
  decodeMakeDirectory(): number {
    const result = this.#names(FuseInSize.fuse_mkdir_in, 1);
    if (result !== 0) return result;
    this.mode = this.#u32(this.#bodyAt);
    this.umask = this.#u32(this.#bodyAt + 4);
    return 0;
  }

  /** `RENAME`: `otherNodeid`, `name`, `text`; `flags` are 0. */
  decodeRename(): number {
    this.flags = 0;
    return this.#otherNode(FuseInSize.fuse_rename_in, 2);
  }

  /** `RENAME2`: as `RENAME`, with `flags`. */
  decodeRename2(): number {
    const result = this.#otherNode(FuseInSize.fuse_rename2_in, 2);
    if (result === 0) this.flags = this.#u32(this.#bodyAt + 8);
    return result;
  }

  /** `LINK`: `otherNodeid` is the file, `name` its new name. */
  decodeLink(): number {
    return this.#otherNode(FuseInSize.fuse_link_in, 1);
  }

  /** `OPEN`, `OPENDIR`: `flags`, `moreFlags`. */
  decodeOpen(): number {
    if (this.#bodySize() !== FuseInSize.fuse_open_in) return -Errno.EINVAL;
    this.flags = this.#u32(this.#bodyAt);
    this.moreFlags = this.#u32(this.#bodyAt + 4);
    return 0;
  }

  /** `CREATE`: `flags`, `mode`, `umask`, `moreFlags`, `name`. */
  decodeCreate(): number {
    const result = this.#names(FuseInSize.fuse_create_in, 1);
    return result === 0 ? this.decodeTemporary() : result;
  }

  /** `TMPFILE`: as `CREATE`, but the name means nothing (Linux sends `/`). */
  decodeTemporary(): number {
    if (this.#bodySize() < FuseInSize.fuse_create_in) return -Errno.EINVAL;
    const at = this.#bodyAt;
    this.flags = this.#u32(at);
    this.mode = this.#u32(at + 4);
    this.umask = this.#u32(at + 8);
    this.moreFlags = this.#u32(at + 12);
    return 0;
  }

  /** `READ`, `READDIR`, `READDIRPLUS`: `fh`, `offset`, `length`. */
  decodeRead(): number {
    if (this.#bodySize() !== FuseInSize.fuse_read_in) return -Errno.EINVAL;
    this.fh = this.#u64(this.#bodyAt);
    this.offset = this.#saturated(this.#bodyAt + 8);
    this.length = this.#u32(this.#bodyAt + 16);
    if (this.fh < 0) return -Errno.EBADF;
    return this.length > TRANSFER_SIZE_MAX_BYTES ? -Errno.EINVAL : 0;
  }

  /** `WRITE`: `offset`, `length`, `moreFlags`, `dataAt`. */
  decodeWrite(): number {
    const size = this.#bodySize();
    if (size < FuseInSize.fuse_write_in) return -Errno.EINVAL;
    const at = this.#bodyAt;
    this.offset = this.#u64(at + 8);
    this.length = this.#u32(at + 16);
    this.moreFlags = this.#u32(at + 20);
    this.dataAt = at + FuseInSize.fuse_write_in;
    if (size - FuseInSize.fuse_write_in !== this.length) return -Errno.EINVAL;
    if (this.length > TRANSFER_SIZE_MAX_BYTES) return -Errno.EINVAL;
    return this.offset < 0 || this.offset + this.length > Number.MAX_SAFE_INTEGER
      ? -Errno.EFBIG
      : 0;
  }

  /** `RELEASE`, `RELEASEDIR`, `FLUSH`: `fh`. */
  decodeRelease(): number {
    return this.#handle(FuseInSize.fuse_release_in);
  }

  /** `FSYNC`, `FSYNCDIR`: `fh`. */
  decodeSync(): number {
    return this.#handle(FuseInSize.fuse_fsync_in);
  }

  /**
   * `SETXATTR`: `name`, `flags`, `moreFlags`, the value in `text`.
   *
   * @param extended - `FUSE_SETXATTR_EXT` was agreed, so the structure has all its fields
   */
  decodeSetXattr(extended: boolean): number {
    const structSize = extended
      ? FuseInSize.fuse_setxattr_in
      : FuseInSize.FUSE_COMPAT_SETXATTR_IN_SIZE;
    if (this.#bodySize() < structSize) return -Errno.EINVAL;
    const at = this.#bodyAt;
    const valueSize = this.#u32(at);
    this.flags = this.#u32(at + 4);
    this.moreFlags = extended ? this.#u32(at + 8) : 0;
    const nameEnd = this.#xattrNameEnd(at + structSize);
    if (nameEnd < 0) return nameEnd;
    if (valueSize > XATTR_VALUE_SIZE_MAX_BYTES) return -Errno.E2BIG;
    if (this.#end - nameEnd - 1 !== valueSize) return -Errno.EINVAL;
    this.name = this.#string(at + structSize, nameEnd);
    this.text = this.#string(nameEnd + 1, this.#end);
    return 0;
  }

  /** `GETXATTR`: `length` (0 asks for the size), `name`. */
  decodeGetXattr(): number {
    if (this.#bodySize() < FuseInSize.fuse_getxattr_in) return -Errno.EINVAL;
    this.length = this.#u32(this.#bodyAt);
    return this.#xattrName(this.#bodyAt + FuseInSize.fuse_getxattr_in);
  }

  /** `LISTXATTR`: `length` (0 asks for the size). */
  decodeListXattr(): number {
    if (this.#bodySize() !== FuseInSize.fuse_getxattr_in) return -Errno.EINVAL;
    this.length = this.#u32(this.#bodyAt);
    return 0;
  }

  /** `REMOVEXATTR`: `name`. */
  decodeRemoveXattr(): number {
    return this.#xattrName(this.#bodyAt);
  }

  /** `INTERRUPT`: the `unique` of the request meant, in `offset` (low word) and `otherOffset` (high word). */
  decodeInterrupt(): number {
    if (this.#bodySize() !== FuseInSize.fuse_interrupt_in) return -Errno.EINVAL;
    this.offset = this.#u32(this.#bodyAt);
    this.otherOffset = this.#u32(this.#bodyAt + 4);
    return 0;
  }

  /** `FALLOCATE`: `offset`, `length`, `mode`. */
  decodeAllocate(): number {
    if (this.#bodySize() !== FuseInSize.fuse_fallocate_in) return -Errno.EINVAL;
    this.offset = this.#u64(this.#bodyAt + 8);
    this.length = this.#u64(this.#bodyAt + 16);
    this.mode = this.#u32(this.#bodyAt + 24);
    const bad = this.offset < 0 || this.length < 0;
    return bad || this.offset + this.length > Number.MAX_SAFE_INTEGER ? -Errno.EFBIG : 0;
  }

  /** `LSEEK`: `offset`, `whence` in `flags`. */
  decodeSeek(): number {
    if (this.#bodySize() !== FuseInSize.fuse_lseek_in) return -Errno.EINVAL;
    this.offset = this.#saturated(this.#bodyAt + 8);
    this.flags = this.#u32(this.#bodyAt + 16);
    return 0;
  }

  /** `COPY_FILE_RANGE`, `COPY_FILE_RANGE_64`: `offset`, `otherNodeid`, `otherOffset`, `length`. */
  decodeCopyRange(): number {
    if (this.#bodySize() !== FuseInSize.fuse_copy_file_range_in) return -Errno.EINVAL;
    const at = this.#bodyAt;
    this.offset = this.#saturated(at + 8);
    this.otherNodeid = this.#u64(at + 16);
    this.otherOffset = this.#u64(at + 32);
    this.length = this.#saturated(at + 40);
    if (this.otherNodeid < 0) return -Errno.ESTALE;
    if (this.otherOffset < 0) return -Errno.EFBIG;
    // copy_file_range(2): flags must be 0.
    return this.#u32(at + 48) === 0 && this.#u32(at + 52) === 0 ? 0 : -Errno.EINVAL;
  }

  /** `INIT`: the size is one that a kernel sends. Newer ones may be longer. */
  decodeInit(): number {
    return this.#bodySize() >= 8 ? 0 : -Errno.EINVAL;
  }

  /** `INIT`, after {@link FuseRequest.decodeInit}: a fresh record; what an older kernel does not send is 0. */
  get init(): InitIn {
    const word = (index: number): number =>
      4 * (index + 1) <= this.#bodySize() ? this.#u32(this.#bodyAt + 4 * index) : 0;
    return {
      major: word(0),
      minor: word(1),
      maxReadahead: word(2),
      flags: word(3),
      flags2: word(4),
    };
  }

  #bodySize(): number {
    return this.#end - this.#bodyAt;
  }

  #byte(at: number): number {
    return this.buffer.bytes[at] as number;
  }

  #u32(at: number): number {
    return this.#words[at >>> 2] as number;
  }

  /** A number below 2^53, or -1. */
  #u64(at: number): number {
    const high = this.#u32(at + 4);
    return high < HIGH_WORD_END ? high * TWO_32 + this.#u32(at) : -1;
  }

  /** A number, at most 2^53 - 1. */
  #saturated(at: number): number {
    const value = this.#u64(at);
    return value < 0 ? Number.MAX_SAFE_INTEGER : value;
  }

  /** A signed number, kept within -2^53 to 2^53 (the year 285 million). */
  #seconds(at: number): number {
    const value = (this.#u32(at + 4) | 0) * TWO_32 + this.#u32(at);
    return Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, value));
  }

  #handle(structSize: number): number {
    if (this.#bodySize() !== structSize) return -Errno.EINVAL;
    this.fh = this.#u64(this.#bodyAt);
    return this.fh < 0 ? -Errno.EBADF : 0;
  }

  #otherNode(structSize: number, nameCount: 1 | 2): number {
    const result = this.#names(structSize, nameCount);
    if (result !== 0) return result;
    this.otherNodeid = this.#u64(this.#bodyAt);
    return this.otherNodeid < 0 ? -Errno.ESTALE : 0;
  }

  /** Reads one or two names behind a structure, and that nothing follows them. */
  #names(structSize: number, count: 1 | 2): number {
    const first = this.#bodyAt + structSize;
    const firstEnd = this.#nameEnd(first);
    if (firstEnd < 0) return firstEnd;
    let end = firstEnd;
    if (count === 2) {
      end = this.#nameEnd(firstEnd + 1);
      if (end < 0) return end;
      this.text = this.#string(firstEnd + 1, end);
    }
    if (end !== this.#end - 1) return -Errno.EINVAL;
    this.name = this.#string(first, firstEnd);
    return 0;
  }

  /** Where the NUL of a directory entry's name is, or a negative errno. */
  #nameEnd(at: number): number {
    const nul = this.#find(0, at);
    const size = nul - at;
    if (nul < 0 || size < 1) return -Errno.EINVAL;
    if (size > NAME_SIZE_MAX_BYTES) return -Errno.ENAMETOOLONG;
    const slash = this.#find(SLASH, at, nul);
    if (slash >= 0) return -Errno.EINVAL;
    const dots =
      this.#byte(at) === DOT && (size === 1 || (size === 2 && this.#byte(at + 1) === DOT));
    return dots ? -Errno.EINVAL : nul;
  }

  #xattrName(at: number): number {
    const nameEnd = this.#xattrNameEnd(at);
    if (nameEnd < 0) return nameEnd;
    if (nameEnd !== this.#end - 1) return -Errno.EINVAL;
    this.name = this.#string(at, nameEnd);
    return 0;
  }

  #xattrNameEnd(at: number): number {
    const nul = this.#find(0, at);
    if (nul < 0 || nul === at) return -Errno.EINVAL;
    return nul - at > XATTR_NAME_SIZE_MAX_BYTES ? -Errno.ERANGE : nul;
  }

  /** Where a byte comes first at or behind `at`, or -1. */
  #find(byte: number, at: number, end = this.#end): number {
    const { bytes } = this.buffer;
    for (let index = at; index < end; index += 1) if (bytes[index] === byte) return index;
    return -1;
  }

  #string(at: number, end: number): string {
    return this.buffer.bytes.toString('latin1', at, end);
  }
}
