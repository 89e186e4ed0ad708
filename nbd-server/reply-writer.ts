/**
 * The way out: an answered request becomes a reply in the output of its stream. Read data is copied
 * from the pooled buffer behind its header, both in one reservation, so that all replies of a turn
 * leave in one write. A reply longer than an output chunk goes out in pieces, and nothing may come
 * between them. When the client does not read, replies wait in a queue of slots (and hold their
 * buffers, which bounds them) until the stream has drained.
 *
 * A read that failed never has data: the status is known before the first byte is written, which is
 * what makes simple replies safe (proto.md: an error after part of the data could only be a hard
 * close).
 */
import type { BlockDevice } from '../common/ports.ts';
import { ExtentList } from './block-status.ts';
import type { BufferPool } from './buffer-pool.ts';
import {
  NBD_ALLOCATION_CONTEXT_ID,
  NBD_CMD,
  NBD_CMD_FLAG,
  NBD_ERROR,
  NBD_EXTENDED_REPLY_SIZE_BYTES,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE,
  NBD_SIMPLE_REPLY_SIZE_BYTES,
  NBD_STRUCTURED_REPLY_SIZE_BYTES,
} from './constants.ts';
import {
  encodeExtendedReply,
  encodeSimpleReply,
  encodeStructuredReply,
  ReplyMode,
  type ReplyModeValue,
} from './message-codec.ts';
import { NO_SLOT, SlotQueue, type RequestSlots } from './request-slots.ts';
import { STREAM_OUTPUT_CHUNK_SIZE_BYTES, type NbdStream } from '../common/nbd-stream.ts';

const { NBD_CMD_READ, NBD_CMD_BLOCK_STATUS } = NBD_CMD;
const { NBD_REPLY_TYPE_NONE, NBD_REPLY_TYPE_OFFSET_DATA, NBD_REPLY_TYPE_ERROR } = NBD_REPLY_TYPE;
const { NBD_REPLY_TYPE_BLOCK_STATUS, NBD_REPLY_TYPE_BLOCK_STATUS_EXT } = NBD_REPLY_TYPE;

/** Output that may wait for the client before further replies queue up, bytes. */
export const OUTPUT_BACKLOG_MAX_BYTES = 4 * STREAM_OUTPUT_CHUNK_SIZE_BYTES;

/** The pieces in which a reply longer than an output chunk is copied out, bytes. */
const PIECE_SIZE_BYTES = 256 * 1024;

/** Payload of an OFFSET_DATA chunk before the data: the offset. */
const DATA_PREFIX_SIZE_BYTES = 8;
/** Payload of an ERROR chunk without a message: error and message length. */
const ERROR_PAYLOAD_SIZE_BYTES = 6;

/** What a reply writer works on. */
export interface ReplyWriterParts {
  /** Where replies go. */
  readonly stream: NbdStream;
  /** The requests. */
  readonly slots: RequestSlots;
  /** Where read data lies. */
  readonly pool: BufferPool;
  /** Who knows the extents. */
  readonly device: BlockDevice;
  /** How replies are framed. */
  readonly mode: ReplyModeValue;
  /** Called when the reply of a slot is in the output; the slot and its buffer are then free to go. */
  readonly onReplied: (slot: number) => void;
}

/** Turns answered slots into bytes. */
export class ReplyWriter {
  readonly #stream: NbdStream;
  readonly #slots: RequestSlots;
  readonly #pool: BufferPool;
  readonly #device: BlockDevice;
  readonly #mode: ReplyModeValue;
  readonly #onReplied: (slot: number) => void;
  readonly #ready: SlotQueue;
  #extents: ExtentList | undefined;
  #output: NbdStream['output'] | undefined;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #partialSlot = NO_SLOT;
  #partialSent = 0;

  /** @param parts - what it works on */
  constructor(parts: ReplyWriterParts) {
    this.#stream = parts.stream;
    this.#slots = parts.slots;
    this.#pool = parts.pool;
    this.#device = parts.device;
    this.#mode = parts.mode;
    this.#onReplied = parts.onReplied;
    this.#ready = new SlotQueue(parts.slots);
  }

  /** Replies to a slot whose `error` column is set, now or as soon as the output has room. */
  finish(slot: number): void {
    const busy = this.#partialSlot !== NO_SLOT || !this.#ready.empty;
    if (busy || this.#stream.backlogBytes > OUTPUT_BACKLOG_MAX_BYTES) {
      this.#ready.push(slot);
      return;
    }
    this.#emit(slot);
    if (this.#partialSlot !== NO_SLOT) this.pump();
  }

  /** Writes what waits, as far as there is room; called when the stream has drained. */
  pump(): void {
    while (this.#stream.backlogBytes <= OUTPUT_BACKLOG_MAX_BYTES) {
      if (this.#partialSlot !== NO_SLOT) {
        this.#emitPiece();
        continue;
      }
      const slot = this.#ready.shift();
      if (slot === NO_SLOT) return;
      this.#emit(slot);
    }
  }

  /** Forgets what waits, for a stream that has closed: each slot is reported as replied. */
  discard(): void {
    const partial = this.#partialSlot;
    this.#partialSlot = NO_SLOT;
    if (partial !== NO_SLOT) this.#onReplied(partial);
    for (let slot = this.#ready.shift(); slot !== NO_SLOT; slot = this.#ready.shift()) {
      this.#onReplied(slot);
    }
  }

  #emit(slot: number): void {
    const command = this.#slots.command[slot];
    if (this.#slots.error[slot] !== NBD_ERROR.NBD_OK) this.#emitError(slot);
    else if (command === NBD_CMD_READ && this.#slots.length[slot] !== 0) {
      this.#emitRead(slot);
      return;
    } else if (command === NBD_CMD_BLOCK_STATUS) this.#emitBlockStatus(slot);
    else this.#emitSuccess(slot);
    this.#onReplied(slot);
  }

  #emitRead(slot: number): void {
    const length = this.#slots.length[slot] ?? 0;
    const simple = this.#mode === ReplyMode.SIMPLE;
    const headerSize = simple
      ? NBD_SIMPLE_REPLY_SIZE_BYTES
      : this.#chunkHeaderSize() + DATA_PREFIX_SIZE_BYTES;
    const whole = headerSize + length <= STREAM_OUTPUT_CHUNK_SIZE_BYTES;
    const at = this.#reserve(whole ? headerSize + length : headerSize);
    if (simple) {
      this.#putSimple(at, slot, NBD_ERROR.NBD_OK);
    } else {
      const payloadAt = at + this.#chunkHeaderSize();
      this.#putChunk(at, slot, NBD_REPLY_TYPE_OFFSET_DATA, DATA_PREFIX_SIZE_BYTES + length);
      this.#view.setUint32(payloadAt, this.#slots.offsetHigh[slot] ?? 0);
      this.#view.setUint32(payloadAt + 4, this.#slots.offsetLow[slot] ?? 0);
    }
    if (whole) {
      const buffer = this.#slots.buffer[slot] ?? NO_SLOT;
      const view = this.#pool.view(buffer);
      const data = view.length === length ? view : view.subarray(0, length);
      this.#stream.output.bytes.set(data, at + headerSize);
      this.#onReplied(slot);
    } else {
      this.#partialSlot = slot;
      this.#partialSent = 0;
    }
  }

  #emitPiece(): void {
    const slot = this.#partialSlot;
    const length = this.#slots.length[slot] ?? 0;
    const start = this.#partialSent;
    const end = Math.min(start + PIECE_SIZE_BYTES, length);
    const at = this.#reserve(end - start);
    const view = this.#pool.view(this.#slots.buffer[slot] ?? NO_SLOT);
    this.#stream.output.bytes.set(view.subarray(start, end), at);
    this.#partialSent = end;
    if (end < length) return;
    this.#partialSlot = NO_SLOT;
    this.#onReplied(slot);
  }

  #emitError(slot: number): void {
    const error = this.#slots.error[slot] ?? NBD_ERROR.NBD_EIO;
    const command = this.#slots.command[slot];
    const chunked =
      this.#mode === ReplyMode.EXTENDED ||
      (this.#mode === ReplyMode.STRUCTURED &&
        (command === NBD_CMD_READ || command === NBD_CMD_BLOCK_STATUS));
    if (!chunked) {
      this.#putSimple(this.#reserve(NBD_SIMPLE_REPLY_SIZE_BYTES), slot, error);
      return;
    }
    const headerSize = this.#chunkHeaderSize();
    const at = this.#reserve(headerSize + ERROR_PAYLOAD_SIZE_BYTES);
    this.#putChunk(at, slot, NBD_REPLY_TYPE_ERROR, ERROR_PAYLOAD_SIZE_BYTES);
    this.#view.setUint32(at + headerSize, error);
    this.#view.setUint16(at + headerSize + 4, 0);
  }

  /** A reply without data. Simple replies may stay simple, except for a read of nothing. */
  #emitSuccess(slot: number): void {
    const simple =
      this.#mode === ReplyMode.SIMPLE ||
      (this.#mode === ReplyMode.STRUCTURED && this.#slots.command[slot] !== NBD_CMD_READ);
    if (simple) {
      this.#putSimple(this.#reserve(NBD_SIMPLE_REPLY_SIZE_BYTES), slot, NBD_ERROR.NBD_OK);
    } else {
      this.#putChunk(this.#reserve(this.#chunkHeaderSize()), slot, NBD_REPLY_TYPE_NONE, 0);
    }
  }

  #emitBlockStatus(slot: number): void {
    const extents = (this.#extents ??= new ExtentList());
    const one = ((this.#slots.flags[slot] ?? 0) & NBD_CMD_FLAG.NBD_CMD_FLAG_REQ_ONE) !== 0;
    const { offset, length } = this.#slots;
    extents.collect(this.#device, offset[slot] ?? 0, length[slot] ?? 0, one);
    const headerSize = this.#chunkHeaderSize();
    const wide = this.#mode === ReplyMode.EXTENDED;
    const payloadSize = wide ? 8 + 16 * extents.count : 4 + 8 * extents.count;
    const at = this.#reserve(headerSize + payloadSize);
    const type = wide ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    this.#putChunk(at, slot, type, payloadSize);
    this.#view.setUint32(at + headerSize, NBD_ALLOCATION_CONTEXT_ID);
    if (wide) {
      this.#view.setUint32(at + headerSize + 4, extents.count);
      extents.encode64(this.#view, at + headerSize + 8);
    } else {
      extents.encode32(this.#view, at + headerSize + 4);
    }
  }

  #chunkHeaderSize(): number {
    return this.#mode === ReplyMode.EXTENDED
      ? NBD_EXTENDED_REPLY_SIZE_BYTES
      : NBD_STRUCTURED_REPLY_SIZE_BYTES;
  }

  #putSimple(at: number, slot: number, error: number): void {
    const { cookieHigh, cookieLow } = this.#slots;
    encodeSimpleReply(this.#view, at, error, cookieHigh[slot] ?? 0, cookieLow[slot] ?? 0);
  }

  /** Every reply of ours is one chunk, so every chunk is the last of its reply. */
  #putChunk(at: number, slot: number, type: number, payloadSize: number): void {
    const cookieHigh = this.#slots.cookieHigh[slot] ?? 0;
    const cookieLow = this.#slots.cookieLow[slot] ?? 0;
    const flags = NBD_REPLY_FLAG_DONE;
    if (this.#mode === ReplyMode.EXTENDED) {
      const offsetHigh = this.#slots.offsetHigh[slot] ?? 0;
      const offsetLow = this.#slots.offsetLow[slot] ?? 0;
      encodeExtendedReply(
        this.#view,
        at,
        flags,
        type,
        cookieHigh,
        cookieLow,
        offsetHigh,
        offsetLow,
        payloadSize,
      );
    } else {
      encodeStructuredReply(this.#view, at, flags, type, cookieHigh, cookieLow, payloadSize);
    }
  }

  #reserve(length: number): number {
    const at = this.#stream.reserve(length);
    const output = this.#stream.output;
    if (output !== this.#output) {
      const { buffer, byteOffset, byteLength } = output.bytes;
      this.#output = output;
      this.#view = new DataView(buffer, byteOffset, byteLength);
    }
    return at;
  }
}
