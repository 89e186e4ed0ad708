/**
 * Builds the outgoing record of a turn. Messages arrive one by one from anywhere in the turn, and the
 * record leaves at its end, in one piece: its pages are put straight into the output memory as they
 * come (a reply's pages are read from the slab into the very bytes that are sent), its messages wait
 * in two small staging areas, READ and PING before everything else. Closing the record puts the heads behind
 * the pages and seals in place. When a record is full it closes early and the next one begins.
 *
 * No socket here: the output is whatever can reserve bytes (ByteStream in the product).
 */
import { addressIn } from '../common/aead.ts';
import { MemcloudError } from '../common/errors.ts';
import { copyMemory } from '../common/libc.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import {
  HEAD_SIZE_MAX,
  MESSAGE_BODY_SIZE_MAX,
  MESSAGE_HEADER_SIZE_BYTES,
  MessageType,
  RECORD_HEADER_SIZE_BYTES,
  RECORD_PAGE_COUNT_TARGET,
  RECORD_TAG_SIZE_BYTES,
} from './constants.ts';
import { writeRecordLengths } from './frame.ts';
import { MessageWriter, paddedLength, PAGE_MESSAGE_SIZE_BYTES } from './messages.ts';
import type { RecordSealer } from './record-cipher.ts';

/** Where records go: the part of ByteStream that a writer needs. */
export interface RecordOutput {
  /** Reserves bytes that leave at the end of the turn. */
  reserve(length: number): number;
  /** Gives back the end of the last reservation. */
  unreserve(length: number): void;
  /** The memory of the last reservation. */
  readonly output: NativeBuffer;
  /** Bytes that the kernel has not taken yet. */
  readonly backlogBytes: number;
}

/** Room kept in the head for the REKEY that may end a record. */
const REKEY_ROOM_BYTES = MESSAGE_HEADER_SIZE_BYTES;
const PAGES_SIZE_MAX = RECORD_PAGE_COUNT_TARGET * SEALED_PAGE_SIZE_BYTES;
const RESERVATION_SIZE_BYTES =
  RECORD_HEADER_SIZE_BYTES + PAGES_SIZE_MAX + HEAD_SIZE_MAX + RECORD_TAG_SIZE_BYTES;

/** The outgoing half of a session. */
export class RecordWriter {
  /** Time now, for rekeying; the owner keeps it fresh. */
  nowMs: number;
  /** Records closed. */
  recordCount = 0;
  /** Bytes of records closed. */
  byteCount = 0;
  readonly #output: RecordOutput;
  readonly #sealer: RecordSealer;
  readonly #staging: NativeMemory;
  readonly #urgentBuffer: NativeBuffer;
  readonly #restBuffer: NativeBuffer;
  readonly #urgent: MessageWriter;
  readonly #rest: MessageWriter;
  #open = false;
  #destroyed = false;
  #start = 0;
  #pagesLength = 0;

  /** @param sealer - owned from now on */
  constructor(output: RecordOutput, sealer: RecordSealer, nowMs: number) {
    this.#output = output;
    this.#sealer = sealer;
    this.nowMs = nowMs;
    this.#staging = new NativeMemory(2 * HEAD_SIZE_MAX, { lock: true, secret: true });
    const half = (offset: number): NativeBuffer => ({
      bytes: this.#staging.bytes.subarray(offset, offset + HEAD_SIZE_MAX),
      address: this.#staging.address + offset,
    });
    this.#urgentBuffer = half(0);
    this.#restBuffer = half(HEAD_SIZE_MAX);
    this.#urgent = new MessageWriter(this.#urgentBuffer);
    this.#rest = new MessageWriter(this.#restBuffer);
  }

  /** Bytes waiting for the kernel, the open record not counted. */
  get backlogBytes(): number {
    return this.#output.backlogBytes - (this.#open ? RESERVATION_SIZE_BYTES : 0);
  }

  /** The memory that {@link RecordWriter.placePages} gives offsets in. */
  get pageMemory(): NativeBuffer {
    return this.#output.output;
  }

  /**
   * Makes room for `pageCount` pages and their message, which the caller writes next.
   *
   * @param pageCount - 1 to 64
   * @returns where in {@link RecordWriter.pageMemory} the pages go; nothing is taken until
   *   {@link RecordWriter.keepPages}
   */
  placePages(pageCount: number): number {
    const length = pageCount * SEALED_PAGE_SIZE_BYTES;
    if (this.#open && this.#pagesLength + length > PAGES_SIZE_MAX) this.close();
    this.#ensureHeadRoom(PAGE_MESSAGE_SIZE_BYTES);
    return this.#start + RECORD_HEADER_SIZE_BYTES + this.#pagesLength;
  }

  /** Takes the pages that were put at the place that {@link RecordWriter.placePages} gave. */
  keepPages(pageCount: number): void {
    this.#pagesLength += pageCount * SEALED_PAGE_SIZE_BYTES;
  }

  /** Adds a message with two words of body: a page request or READ_REPLY. */
  pages(
    type: number,
    aux: number,
    idLow: number,
    idHigh: number,
    word0: number,
    word1: number,
  ): void {
    this.#ensureHeadRoom(PAGE_MESSAGE_SIZE_BYTES);
    const writer = type === MessageType.READ ? this.#urgent : this.#rest;
    writer.pages(type, aux, idLow, idHigh, word0, word1);
  }

  /** Adds a message without a body. */
  plain(type: number, aux: number, idLow: number, idHigh: number): void {
    this.#ensureHeadRoom(MESSAGE_HEADER_SIZE_BYTES);
    const writer =
      type === MessageType.PING || type === MessageType.PONG ? this.#urgent : this.#rest;
    writer.plain(type, aux, idLow, idHigh);
  }

  /** Adds a message with a body, which is copied. */
  body(type: number, idLow: number, idHigh: number, body: Uint8Array, aux = 0): void {
    if (body.length > MESSAGE_BODY_SIZE_MAX) {
      throw new MemcloudError('ERR_INTERNAL', `a message body of ${body.length} bytes is too long`);
    }
    this.#ensureHeadRoom(MESSAGE_HEADER_SIZE_BYTES + paddedLength(body.length));
    this.#rest.body(type, idLow, idHigh, body, aux);
  }

  /** Seals the open record, if any, and gives back what it did not use. Before each flush. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const headLength = this.#urgent.length + this.#rest.length;
    if (headLength === 0) {
      this.#output.unreserve(RESERVATION_SIZE_BYTES);
      return;
    }
    const rekeys = this.#sealer.mustRekey(this.nowMs);
    if (rekeys) this.#rest.plain(MessageType.REKEY, 0, 0, 0);
    this.#seal();
    if (rekeys) this.#sealer.rekey(this.nowMs);
  }

  /** Zeroes the key and the staging areas. An open record is lost. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    // Half a record may not leave with the next flush.
    if (this.#open) this.#output.unreserve(RESERVATION_SIZE_BYTES);
    this.#open = false;
    this.#sealer.destroy();
    this.#staging.free();
  }

  #seal(): void {
    const memory = this.#output.output;
    const pagesLength = this.#pagesLength;
    const urgentLength = this.#urgent.length;
    const restLength = this.#rest.length;
    const headLength = urgentLength + restLength;
    const headStart = this.#start + RECORD_HEADER_SIZE_BYTES + pagesLength;
    const head = addressIn(memory, headStart, headLength);
    copyMemory(head, this.#urgentBuffer.address, urgentLength);
    copyMemory(head + urgentLength, this.#restBuffer.address, restLength);
    const size = writeRecordLengths(memory, this.#start, pagesLength, headLength);
    this.#sealer.seal(memory, this.#start, pagesLength, headLength);
    this.#urgent.reset();
    this.#rest.reset();
    this.#pagesLength = 0;
    this.recordCount += 1;
    this.byteCount += size;
    this.#output.unreserve(RESERVATION_SIZE_BYTES - size);
  }

  #ensureHeadRoom(length: number): void {
    if (this.#open) {
      const used = this.#urgent.length + this.#rest.length;
      if (used + length + REKEY_ROOM_BYTES <= HEAD_SIZE_MAX) return;
      this.close();
    }
    // Its memory is gone: to write on would be a crash.
    if (this.#destroyed)
      throw new MemcloudError('ERR_INTERNAL', 'a session was used after its end');
    this.#start = this.#output.reserve(RESERVATION_SIZE_BYTES);
    this.#open = true;
  }
}
