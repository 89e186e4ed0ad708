/**
 * READs of bytes that lie in memory of this process: the reply is sent from there by one writev(2), so that the
 * only copy is the kernel's. Nothing is under way meanwhile, and no slot is taken.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import type { FuseRequest } from './codec.ts';
import { FuseOutSize, TRANSFER_SIZE_MAX_BYTES } from './constants.ts';
import { IoVectors } from './io-vectors.ts';
import type { FileOperations } from './operations.ts';
import { encodeOutHeader } from './reply-codec.ts';
import { REPLY_AT, type TransferBuffer } from './transfer-buffer.ts';

const HEADER_WORD = REPLY_AT / 4;

/** What sends such replies. */
export interface GatheringPort {
  /** Sends a whole reply that lies in pieces, its header first; the pieces stay their owners'. */
  replyGathered(vectors: IoVectors, header: NativeBuffer, headerOffset: number): void;
}

/** See the top of the file. */
export class InPlaceReads {
  readonly #port: GatheringPort;
  readonly #header: TransferBuffer;
  readonly #vectors = new IoVectors();

  /** @param header - where headers are made; the caller's between two calls */
  constructor(port: GatheringPort, header: TransferBuffer) {
    this.#port = port;
    this.#header = header;
  }

  /** Answers a READ that was decoded. @returns false when its bytes must be read, or there are none */
  answer(operations: FileOperations, request: FuseRequest): boolean {
    const { nodeid, offset, length, uniqueLow, uniqueHigh } = request;
    if (length > TRANSFER_SIZE_MAX_BYTES) return false;
    const vectors = this.#vectors;
    const header = this.#header;
    vectors.clear();
    vectors.add(header.address + REPLY_AT, FuseOutSize.fuse_out_header);
    if (operations.readInPlace(nodeid, offset, length, vectors) <= 0) return false;
    encodeOutHeader(header.words, HEADER_WORD, vectors.length, 0, uniqueLow, uniqueHigh);
    this.#port.replyGathered(vectors, header, REPLY_AT);
    return true;
  }

  /** Frees memory. */
  free(): void {
    this.#vectors.free();
  }
}
