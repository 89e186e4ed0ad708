/**
 * Memory for one transfer between the kernel and the file system: a request as it is read from
 * /dev/fuse, or a reply with data. The header of either lies so that the data behind it begins on a page:
 * the kernel copies page by page, and a page that straddles two of ours would be looked up twice.
 */
import { NativeMemory } from '../common/native-memory.ts';
import type { RequestBuffer } from './codec.ts';
import { FuseInSize, FuseOutSize, TRANSFER_SIZE_MAX_BYTES } from './constants.ts';

const DATA_AT = 4096;

/** Where a request is read to, so that the data of a WRITE begins on a page. */
export const REQUEST_AT = DATA_AT - FuseInSize.fuse_in_header - FuseInSize.fuse_write_in;
/** Bytes of a request at most: a WRITE in full. The kernel refuses to read into less. */
export const REQUEST_SIZE_MAX_BYTES =
  FuseInSize.fuse_in_header + FuseInSize.fuse_write_in + TRANSFER_SIZE_MAX_BYTES;
/** Where the data of a reply begins. */
export const REPLY_DATA_AT = DATA_AT;
/** Where a reply begins. */
export const REPLY_AT = DATA_AT - FuseOutSize.fuse_out_header;

/** See the top of the file. */
export class TransferBuffer implements RequestBuffer {
  readonly bytes: Buffer;
  readonly address: number;
  readonly words: Uint32Array;
  /** The bytes that a request is read into. */
  readonly requestBytes: Buffer;
  readonly #memory: NativeMemory;

  /** @throws MemcloudError `ERR_NATIVE` when there is no memory; pages are taken at the first touch only */
  constructor() {
    this.#memory = new NativeMemory(DATA_AT + TRANSFER_SIZE_MAX_BYTES);
    this.bytes = this.#memory.bytes;
    this.address = this.#memory.address;
    this.words = new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length / 4);
    this.requestBytes = this.bytes.subarray(REQUEST_AT, REQUEST_AT + REQUEST_SIZE_MAX_BYTES);
  }

  /** Unmaps it. No view of it may be used afterwards. */
  free(): void {
    this.#memory.free();
  }
}
