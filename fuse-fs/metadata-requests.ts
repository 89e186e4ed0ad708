/**
 * Requests that end at once, because all metadata is in this process: each is decoded, carried out, and
 * its reply made in one piece of memory. A method returns the bytes of the reply behind its header, or a
 * negative errno. Requests for file data and those that may wait for the pool are in session.ts.
 */
import type { FuseRequest } from './codec.ts';
import {
  FUSE_SETXATTR_ACL_KILL_SGID,
  FuseInit,
  FuseOpcode,
  FuseOpenReply,
  FuseOutSize,
  TRANSFER_SIZE_MAX_BYTES,
} from './constants.ts';
import { DirectoryPacker } from './directory-codec.ts';
import { Errno } from './errno.ts';
import type { FuseProfile } from './negotiation.ts';
import { emptyAttributes, type FileOperations, type FileSystemStatistics } from './operations.ts';
import {
  encodeAttrOut,
  encodeEntryOut,
  encodeNegativeEntryOut,
  encodeOpenOut,
  encodeSizeOut,
  encodeStatfsOut,
  encodeU64,
} from './reply-codec.ts';
import type { RequestTable } from './request-table.ts';
import { REPLY_DATA_AT, type TransferBuffer } from './transfer-buffer.ts';

const DATA_WORD = REPLY_DATA_AT / 4;
/** `include/uapi/linux/stat.h`. */
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const PERMISSION_BITS = 0o7777;
/** What the kernel may do with an open file: nobody else changes it. */
const FILE_OPEN_FLAGS = FuseOpenReply.FOPEN_KEEP_CACHE;
/** The kernel itself drops a cached listing when it makes or removes a name in the directory. */
const DIRECTORY_OPEN_FLAGS = FuseOpenReply.FOPEN_KEEP_CACHE | FuseOpenReply.FOPEN_CACHE_DIR;

/** What a request returns when its reply goes its own way, or there is none. */
export const ELSEWHERE = 2 ** 40;

/** True for requests that have no reply. */
export function isSilent(opcode: number): boolean {
  return (
    opcode === FuseOpcode.FUSE_FORGET ||
    opcode === FuseOpcode.FUSE_BATCH_FORGET ||
    opcode === FuseOpcode.FUSE_INTERRUPT ||
    opcode === FuseOpcode.FUSE_NOTIFY_REPLY
  );
}

/** See the top of the file. */
export class MetadataRequests {
  #openless = false;
  #extendedAttributes = true;
  #extendedSetXattr = false;
  readonly #operations: FileOperations;
  readonly #reply: TransferBuffer;
  readonly #words: Uint32Array;
  readonly #attributes = emptyAttributes();
  readonly #packer: DirectoryPacker;
  readonly #statistics: FileSystemStatistics = {
    blockCount: 0,
    freeBlockCount: 0,
    inodeCount: 0,
    freeInodeCount: 0,
  };

  /** @param reply - where replies are made, from `REPLY_DATA_AT` on */
  constructor(operations: FileOperations, reply: TransferBuffer) {
    this.#operations = operations;
    this.#reply = reply;
    this.#words = reply.words;
    this.#packer = new DirectoryPacker(reply.bytes, reply.words, emptyAttributes());
  }

  /** INIT has ended. @param flags - `FuseInit` bits that were agreed */
  configure(profile: FuseProfile, flags: number): void {
    this.#openless = (flags & FuseInit.FUSE_NO_OPEN_SUPPORT) !== 0;
    this.#extendedSetXattr = (flags & FuseInit.FUSE_SETXATTR_EXT) !== 0;
    this.#extendedAttributes = profile.extendedAttributes;
  }

  /** True for a directory that is there. */
  isDirectory(nodeid: number): boolean {
    const attributes = this.#attributes;
    const found = this.#operations.attributes(nodeid, attributes) >= 0;
    return found && (attributes.mode & S_IFMT) === S_IFDIR;
  }

  /** Serves a request that is not for data. */
  serve(request: FuseRequest): number {
    switch (request.opcode) {
      case FuseOpcode.FUSE_LOOKUP:
        return this.#lookup(request);
      case FuseOpcode.FUSE_FORGET:
        return this.#forget(request);
      case FuseOpcode.FUSE_BATCH_FORGET:
        return this.#batchForget(request);
      case FuseOpcode.FUSE_GETATTR:
        return this.#getAttributes(request);
      case FuseOpcode.FUSE_CREATE:
        return this.#create(request);
      case FuseOpcode.FUSE_RELEASE:
        return this.#release(request);
      case FuseOpcode.FUSE_UNLINK:
        return this.#unlink(request);
      case FuseOpcode.FUSE_READDIR:
        return this.#readDirectory(request, false);
      case FuseOpcode.FUSE_READDIRPLUS:
        return this.#readDirectory(request, true);
      case FuseOpcode.FUSE_OPENDIR:
        return this.#openDirectory(request);
      case FuseOpcode.FUSE_RELEASEDIR:
        return this.#releaseDirectory(request);
      case FuseOpcode.FUSE_MKDIR:
        return this.#makeDirectory(request);
      case FuseOpcode.FUSE_RMDIR:
        return this.#removeDirectory(request);
      case FuseOpcode.FUSE_RENAME:
        return this.#rename(request, false);
      case FuseOpcode.FUSE_RENAME2:
        return this.#rename(request, true);
      case FuseOpcode.FUSE_READLINK:
        return this.#readLink(request);
      case FuseOpcode.FUSE_SYMLINK:
        return this.#symlink(request);
      case FuseOpcode.FUSE_LINK:
        return this.#link(request);
      case FuseOpcode.FUSE_MKNOD:
        return this.#makeNode(request);
      case FuseOpcode.FUSE_TMPFILE:
        return this.#makeTemporary(request);
      case FuseOpcode.FUSE_STATFS:
        return this.#statfs(request);
      case FuseOpcode.FUSE_LSEEK:
        return this.#seek(request);
      case FuseOpcode.FUSE_FSYNCDIR:
      case FuseOpcode.FUSE_DESTROY:
        return 0;
      case FuseOpcode.FUSE_IOCTL:
        return -Errno.ENOTTY;
      case FuseOpcode.FUSE_NOTIFY_REPLY:
        return ELSEWHERE;
      default:
        return this.#extendedAttributes ? this.#serveXattr(request) : -Errno.ENOSYS;
    }
  }

  /** FLUSH, ACCESS, POLL, BMAP, STATX, locks and what is to come end here too, with `ENOSYS`. */
  #serveXattr(request: FuseRequest): number {
    switch (request.opcode) {
      case FuseOpcode.FUSE_GETXATTR:
        return this.#getXattr(request);
      case FuseOpcode.FUSE_LISTXATTR:
        return this.#listXattr(request);
      case FuseOpcode.FUSE_SETXATTR:
        return this.#setXattr(request);
      case FuseOpcode.FUSE_REMOVEXATTR:
        return this.#removeXattr(request);
      default:
        return -Errno.ENOSYS;
    }
  }

  #lookup(request: FuseRequest): number {
    const invalid = request.decodeName();
    if (invalid !== 0) return invalid;
    const nodeid = this.#operations.lookup(request.nodeid, request.name);
    if (nodeid === -Errno.ENOENT) {
      encodeNegativeEntryOut(this.#words, DATA_WORD);
      return FuseOutSize.fuse_entry_out;
    }
    return this.#entry(nodeid);
  }

  #forget(request: FuseRequest): number {
    if (request.decodeForget() === 0) this.#operations.forget(request.nodeid, request.length);
    return ELSEWHERE;
  }

  #batchForget(request: FuseRequest): number {
    if (request.decodeBatchForget() !== 0) return ELSEWHERE;
    const count = request.length;
    for (let index = 0; index < count; index += 1) {
      request.decodeForgetItem(index);
      this.#operations.forget(request.otherNodeid, request.length);
    }
    return ELSEWHERE;
  }

  #getAttributes(request: FuseRequest): number {
    const invalid = request.decodeGetAttributes();
    return invalid !== 0 ? invalid : this.attributesOf(request.nodeid, this.#reply);
  }

  /** The reply of GETATTR and SETATTR, made in any memory. */
  attributesOf(nodeid: number, reply: TransferBuffer): number {
    const result = this.#operations.attributes(nodeid, this.#attributes);
    if (result < 0) return result;
    encodeAttrOut(reply.words, DATA_WORD, this.#attributes);
    return FuseOutSize.fuse_attr_out;
  }

  #readLink(request: FuseRequest): number {
    const invalid = request.decodeNothing();
    if (invalid !== 0) return invalid;
    const target = this.#operations.readLink(request.nodeid);
    return typeof target === 'number' ? target : this.#text(target);
  }

  #symlink(request: FuseRequest): number {
    const invalid = request.decodeSymlink();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, name, text } = request;
    return this.#entry(this.#operations.symlink(caller, nodeid, name, text));
  }

  #makeNode(request: FuseRequest): number {
    const invalid = request.decodeMakeNode();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, name, mode, umask, rdev } = request;
    return this.#entry(this.#operations.makeNode(caller, nodeid, name, mode, umask, rdev));
  }

  #makeDirectory(request: FuseRequest): number {
    const invalid = request.decodeMakeDirectory();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, name, mode, umask } = request;
    return this.#entry(this.#operations.makeDirectory(caller, nodeid, name, mode, umask));
  }

  #unlink(request: FuseRequest): number {
    const invalid = request.decodeName();
    return invalid !== 0 ? invalid : this.#operations.unlink(request.nodeid, request.name);
  }

  #removeDirectory(request: FuseRequest): number {
    const invalid = request.decodeName();
    return invalid !== 0 ? invalid : this.#operations.removeDirectory(request.nodeid, request.name);
  }

  /** @param withFlags - RENAME2 */
  #rename(request: FuseRequest, withFlags: boolean): number {
    const invalid = withFlags ? request.decodeRename2() : request.decodeRename();
    if (invalid !== 0) return invalid;
    const { nodeid, name, otherNodeid, text, flags } = request;
    return this.#operations.rename(nodeid, name, otherNodeid, text, flags);
  }

  #link(request: FuseRequest): number {
    const invalid = request.decodeLink();
    if (invalid !== 0) return invalid;
    return this.#entry(this.#operations.link(request.otherNodeid, request.nodeid, request.name));
  }

  #create(request: FuseRequest): number {
    const invalid = request.decodeCreate();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, name, umask } = request;
    const mode = S_IFREG | (request.mode & PERMISSION_BITS);
    const made = this.#operations.makeNode(caller, nodeid, name, mode, umask, 0);
    return this.#created(made, request.flags);
  }

  #makeTemporary(request: FuseRequest): number {
    const invalid = request.decodeTemporary();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, umask } = request;
    const mode = S_IFREG | (request.mode & PERMISSION_BITS);
    const made = this.#operations.makeTemporary(caller, nodeid, mode, umask);
    return this.#created(made, request.flags);
  }

  /** The reply of OPEN, made in any memory. */
  opened(fh: number, reply: TransferBuffer): number {
    encodeOpenOut(reply.words, DATA_WORD, fh, FILE_OPEN_FLAGS);
    return FuseOutSize.fuse_open_out;
  }

  #release(request: FuseRequest): number {
    const invalid = request.decodeRelease();
    if (invalid !== 0) return invalid;
    if (request.fh > 0) this.#operations.release(request.fh);
    return 0;
  }

  #openDirectory(request: FuseRequest): number {
    const invalid = request.decodeOpen();
    if (invalid !== 0) return invalid;
    const fh = this.#operations.openDirectory(request.nodeid);
    if (fh < 0) return fh;
    encodeOpenOut(this.#words, DATA_WORD, fh, DIRECTORY_OPEN_FLAGS);
    return FuseOutSize.fuse_open_out;
  }

  /** @param plus - READDIRPLUS */
  #readDirectory(request: FuseRequest, plus: boolean): number {
    const invalid = request.decodeRead();
    if (invalid !== 0) return invalid;
    const size = Math.min(request.length, TRANSFER_SIZE_MAX_BYTES);
    const packer = this.#packer;
    packer.begin(REPLY_DATA_AT, size, request.nodeid, plus ? this.#operations : undefined);
    const result = this.#operations.readDirectory(request.fh, request.offset, packer);
    return result < 0 ? result : packer.size;
  }

  #releaseDirectory(request: FuseRequest): number {
    const invalid = request.decodeRelease();
    if (invalid !== 0) return invalid;
    this.#operations.releaseDirectory(request.fh);
    return 0;
  }

  #setXattr(request: FuseRequest): number {
    const invalid = request.decodeSetXattr(this.#extendedSetXattr);
    if (invalid !== 0) return invalid;
    const { caller, nodeid, name, text, flags } = request;
    const killSetGid = (request.moreFlags & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
    return this.#operations.setAttribute(caller, nodeid, name, text, flags, killSetGid);
  }

  #getXattr(request: FuseRequest): number {
    const invalid = request.decodeGetXattr();
    if (invalid !== 0) return invalid;
    const value = this.#operations.getAttribute(request.nodeid, request.name);
    return typeof value === 'number' ? value : this.#sized(value, request.length);
  }

  #listXattr(request: FuseRequest): number {
    const invalid = request.decodeListXattr();
    if (invalid !== 0) return invalid;
    const names = this.#operations.listAttributes(request.nodeid);
    return typeof names === 'number' ? names : this.#sized(names, request.length);
  }

  #removeXattr(request: FuseRequest): number {
    const invalid = request.decodeRemoveXattr();
    if (invalid !== 0) return invalid;
    return this.#operations.removeAttribute(request.caller, request.nodeid, request.name);
  }

  #statfs(request: FuseRequest): number {
    const invalid = request.decodeNothing();
    if (invalid !== 0) return invalid;
    this.#operations.statistics(this.#statistics);
    encodeStatfsOut(this.#words, DATA_WORD, this.#statistics);
    return FuseOutSize.fuse_statfs_out;
  }

  #seek(request: FuseRequest): number {
    const invalid = request.decodeSeek();
    if (invalid !== 0) return invalid;
    const { nodeid, offset, flags } = request;
    return this.#found(this.#operations.seek(nodeid, offset, flags), this.#reply);
  }

  /** The reply of an LSEEK that waited, made in any memory. */
  sought(slots: RequestTable, slot: number, reply: TransferBuffer): number {
    const nodeid = slots.nodeid[slot] as number;
    const offset = slots.offset[slot] as number;
    const whence = slots.whence[slot] as number;
    return this.#found(this.#operations.seek(nodeid, offset, whence), reply);
  }

  #found(offset: number, reply: TransferBuffer): number {
    if (offset < 0) return offset;
    encodeU64(reply.words, DATA_WORD, offset);
    return FuseOutSize.fuse_lseek_out;
  }

  /** `fuse_entry_out` of a node that was just looked up, or made, once more. */
  #entry(nodeid: number): number {
    if (nodeid < 0) return nodeid;
    const result = this.#operations.attributes(nodeid, this.#attributes);
    if (result < 0) {
      this.#operations.forget(nodeid, 1);
      return result;
    }
    const generation = this.#operations.generation(nodeid);
    encodeEntryOut(this.#words, DATA_WORD, this.#attributes, generation);
    return FuseOutSize.fuse_entry_out;
  }

  /** `fuse_entry_out` and `fuse_open_out` of a file that was just made. */
  #created(nodeid: number, flags: number): number {
    if (nodeid < 0) return nodeid;
    const fh = this.#openless ? 0 : this.#operations.open(nodeid, flags);
    if (fh < 0) {
      this.#operations.forget(nodeid, 1);
      return fh;
    }
    const size = this.#entry(nodeid);
    if (size < 0) return size;
    encodeOpenOut(this.#words, DATA_WORD + size / 4, fh, FILE_OPEN_FLAGS);
    return size + FuseOutSize.fuse_open_out;
  }

  #text(text: string): number {
    return this.#reply.bytes.write(text, REPLY_DATA_AT, 'latin1');
  }

  /** A value into a buffer of `room` bytes of the caller, whose 0 asks for the size alone. */
  #sized(value: string, room: number): number {
    if (room === 0) {
      encodeSizeOut(this.#words, DATA_WORD, value.length);
      return FuseOutSize.fuse_getxattr_out;
    }
    return value.length > room ? -Errno.ERANGE : this.#text(value);
  }
}
