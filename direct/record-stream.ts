/**
 * A stream of bytes inside TLS 1.3 records over a {@link ByteStream}: what the kernel's kTLS speaks
 * on the consumer's side, in user space. It is an {@link NbdStream}, so the NBD server sits on it as
 * it sits on a plain socket.
 *
 * In: every record that lies whole in the ByteStream's input is opened, with one AEAD call, straight
 * into one plaintext buffer that lives as long as the connection; the handler gets all of it at once,
 * and what it leaves stays there. A record of an authenticated connection that does not verify, is
 * foreign or too long means a forger or a defect: the connection ends, and of that record no byte is
 * seen by anyone. Out: reservations gather in a plaintext chunk; at the end of the turn, or when it
 * is full, records of up to 16 KiB are sealed from it straight into the ByteStream's output.
 *
 * Nothing is made per record. Record numbers stop at 2^53 - 1, which no connection reaches: at one
 * record a microsecond that is 285 years (RFC 8446 5.5 asks for no rekey with this cipher).
 */
import { AeadKey, addressIn, emptyAeadMessage } from '../common/aead.ts';
import type { ByteStream, ByteStreamHandler } from '../common/byte-stream.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import {
  STREAM_INPUT_SIZE_BYTES,
  STREAM_OUTPUT_CHUNK_SIZE_BYTES,
  type NbdStream,
} from '../common/nbd-stream.ts';
import {
  TLS_CONTENT_TYPE_APPLICATION_DATA,
  TLS_IV_SIZE_BYTES,
  TLS_PLAINTEXT_SIZE_MAX_BYTES,
  TLS_RECORD_HEADER_SIZE_BYTES,
  TLS_TAG_SIZE_BYTES,
} from './constants.ts';
import type { DirectionKeys } from './keys.ts';
import {
  NEED_MORE,
  decodeInnerPlaintext,
  decodeRecordHeader,
  encodeRecordHeader,
} from './record-codec.ts';

/** What a record stream works on. */
export interface RecordStreamParts {
  /** The connection; its input holds a whole record (16,645 bytes) or more, its chunks likewise. */
  readonly below: ByteStream;
  /** What this side writes with; copied. */
  readonly writeKeys: DirectionKeys;
  /** What the other side writes with; copied. */
  readonly readKeys: DirectionKeys;
  /**
   * Called once, when the first record verified and before anybody sees its content: the other side
   * has the keys. It may destroy this stream.
   */
  readonly onProved?: () => void;
  /** Called once, when the connection has ended, after the handler was told. */
  readonly onEnded?: () => void;
}

/** The handler of a stream that has none yet: leaves everything unread. */
export const NOBODY: ByteStreamHandler = {
  onBytes: (_input, start) => start,
  onDrain: () => undefined,
  onClosed: () => undefined,
};

/**
 * See the top of the file. It must become the handler of the stream below, whose bytes from then on
 * are records; the one above is set by {@link RecordStream.setHandler}.
 */
export class RecordStream implements NbdStream, ByteStreamHandler {
  readonly #below: ByteStream;
  readonly #opener: RecordKey;
  readonly #sealer: RecordKey;
  readonly #onEnded: (() => void) | undefined;
  #onProved: (() => void) | undefined;
  readonly #input = new NativeMemory(STREAM_INPUT_SIZE_BYTES, { lock: true });
  /** One byte longer than a chunk: the type of the last record goes behind its content. */
  readonly #staged = new NativeMemory(STREAM_OUTPUT_CHUNK_SIZE_BYTES + 1, { lock: true });
  readonly #sealOnTick = (): void => this.#sealStaged();
  #handler: ByteStreamHandler = NOBODY;
  #output: { readonly bytes: Buffer } = this.#staged;
  #inputStart = 0;
  #inputEnd = 0;
  #stagedBytes = 0;
  #sealScheduled = false;
  #paused = false;
  #offering = false;
  /** No byte is read or sent any more; {@link RecordStream.onClosed} is still to come. */
  #dead = false;
  #closed = false;

  /** @param parts - what it works on */
  constructor(parts: RecordStreamParts) {
    this.#below = parts.below;
    this.#opener = new RecordKey(parts.readKeys);
    this.#sealer = new RecordKey(parts.writeKeys);
    this.#onEnded = parts.onEnded;
    this.#onProved = parts.onProved;
  }

  /** {@link NbdStream.output} */
  get output(): { readonly bytes: Buffer } {
    return this.#output;
  }

  /** {@link NbdStream.backlogBytes} */
  get backlogBytes(): number {
    return this.#stagedBytes + this.#below.backlogBytes;
  }

  /** {@link NbdStream.remoteAddress} */
  get remoteAddress(): string {
    return this.#below.remoteAddress;
  }

  /** {@link NbdStream.setHandler} */
  setHandler(handler: ByteStreamHandler): void {
    this.#handler = handler;
    if (!this.#offering) this.#offerLater();
  }

  /** {@link NbdStream.reserve} */
  reserve(length: number): number {
    if (this.#closed) return this.#reserveNowhere(length);
    if (this.#stagedBytes + length > STREAM_OUTPUT_CHUNK_SIZE_BYTES) this.#sealStaged();
    const offset = this.#stagedBytes;
    this.#stagedBytes += length;
    if (!this.#sealScheduled) {
      this.#sealScheduled = true;
      process.nextTick(this.#sealOnTick);
    }
    return offset;
  }

  /** {@link NbdStream.send} */
  send(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += STREAM_OUTPUT_CHUNK_SIZE_BYTES) {
      const part = bytes.subarray(at, at + STREAM_OUTPUT_CHUNK_SIZE_BYTES);
      const offset = this.reserve(part.length);
      this.#output.bytes.set(part, offset);
    }
  }

  /** {@link NbdStream.pause} */
  pause(): void {
    this.#paused = true;
    this.#below.pause();
  }

  /** {@link NbdStream.resume} */
  resume(): void {
    this.#paused = false;
    this.#offerLater();
  }

  /** {@link NbdStream.close} */
  close(): void {
    this.#sealStaged();
    this.#below.close();
  }

  /** {@link NbdStream.destroy}: from now on no record is opened and no byte handed on. */
  destroy(error?: Error): void {
    this.#dead = true;
    this.#below.destroy(error);
  }

  /** Records came; {@link ByteStreamHandler}. */
  onBytes(input: NativeBuffer, start: number, end: number): number {
    if (this.#dead) return end;
    try {
      return this.#openRecords(input, start, end);
    } catch (thrown) {
      this.destroy(asMemcloudError(thrown));
      return end;
    }
  }

  /** The output below has left; {@link ByteStreamHandler}. */
  onDrain(): void {
    this.#handler.onDrain();
  }

  /** The connection ended; {@link ByteStreamHandler}. */
  onClosed(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = this.#dead = true;
    this.#stagedBytes = 0;
    this.#opener.destroy();
    this.#sealer.destroy();
    this.#handler.onClosed(error);
    this.#onEnded?.();
    // Whoever called us may still use a view of this turn's reservations.
    setImmediate(() => {
      this.#output = { bytes: Buffer.alloc(0) };
      this.#input.free();
      this.#staged.free();
    });
  }

  /** Opens every whole record that there is room for, offers, and again while that made room. */
  #openRecords(input: NativeBuffer, start: number, end: number): number {
    let at = start;
    while (!this.#paused) {
      at = this.#openWhole(input, at, end);
      const handler = this.#handler;
      this.#offer();
      if (this.#dead) return end;
      const length = decodeRecordHeader(input.bytes, at, end);
      const whole = length !== NEED_MORE && at + TLS_RECORD_HEADER_SIZE_BYTES + length <= end;
      // A new handler has not seen the bytes yet; offerLater goes on from here.
      if (!whole || handler !== this.#handler) break;
      if (!this.#paused && !this.#fits(length)) {
        throw new MemcloudError('ERR_PEER_PROTOCOL', 'a message is longer than the input buffer');
      }
    }
    return at;
  }

  #openWhole(input: NativeBuffer, start: number, end: number): number {
    let at = start;
    for (;;) {
      const length = decodeRecordHeader(input.bytes, at, end);
      const bodyAt = at + TLS_RECORD_HEADER_SIZE_BYTES;
      if (length === NEED_MORE || bodyAt + length > end || !this.#fits(length)) return at;
      const innerLength = length - TLS_TAG_SIZE_BYTES;
      if (!this.#opener.open(input, at, length, this.#input, this.#inputEnd)) {
        throw new MemcloudError('ERR_PEER_AUTHENTICATION', 'a TLS record did not verify');
      }
      this.#inputEnd += decodeInnerPlaintext(this.#input.bytes, this.#inputEnd, innerLength);
      at = bodyAt + length;
      if (this.#onProved !== undefined) this.#prove();
    }
  }

  #prove(): void {
    const proved = this.#onProved;
    this.#onProved = undefined;
    proved?.();
  }

  #fits(length: number): boolean {
    return this.#inputEnd + length - TLS_TAG_SIZE_BYTES <= STREAM_INPUT_SIZE_BYTES;
  }

  /** Opened bytes first; the stream below then offers the records that it kept. */
  #offerLater(): void {
    process.nextTick(() => {
      this.#offer();
      if (!this.#paused && !this.#dead) this.#below.resume();
    });
  }

  /** Hands the opened bytes to the handler and moves what it leaves to the front when room is short. */
  #offer(): void {
    if (this.#paused || this.#dead || this.#inputEnd === this.#inputStart) return;
    const handler = this.#handler;
    this.#offering = true;
    this.#inputStart = handler.onBytes(this.#input, this.#inputStart, this.#inputEnd);
    this.#offering = false;
    if (handler !== this.#handler) this.#offerLater();
    if (this.#inputStart === this.#inputEnd) {
      this.#inputStart = this.#inputEnd = 0;
    } else if (STREAM_INPUT_SIZE_BYTES - this.#inputEnd < STREAM_INPUT_SIZE_BYTES / 4) {
      this.#input.bytes.copyWithin(0, this.#inputStart, this.#inputEnd);
      this.#inputEnd -= this.#inputStart;
      this.#inputStart = 0;
    }
  }

  /** Seals all that was reserved and hands it to the socket. */
  #sealStaged(): void {
    this.#sealScheduled = false;
    const total = this.#stagedBytes;
    this.#stagedBytes = 0;
    if (total === 0 || this.#dead) return;
    for (let at = 0; at < total; at += TLS_PLAINTEXT_SIZE_MAX_BYTES) {
      const length = Math.min(TLS_PLAINTEXT_SIZE_MAX_BYTES, total - at);
      const ciphertextLength = length + 1 + TLS_TAG_SIZE_BYTES;
      const offset = this.#below.reserve(TLS_RECORD_HEADER_SIZE_BYTES + ciphertextLength);
      const output = this.#below.output;
      encodeRecordHeader(output.bytes, offset, ciphertextLength);
      this.#sealer.seal(this.#staged, at, length, output, offset);
    }
    this.#below.flush();
  }

  /** After the end: room that leads nowhere, so that a late reply needs no check. */
  #reserveNowhere(length: number): number {
    if (this.#output.bytes.length < length) this.#output = { bytes: Buffer.alloc(length) };
    return 0;
  }
}

/** One direction's key, iv and record number. */
class RecordKey {
  readonly #key: AeadKey;
  readonly #message = emptyAeadMessage();
  readonly #iv0: number;
  readonly #iv1: number;
  readonly #iv2: number;
  #sequence = 0;

  constructor(keys: DirectionKeys) {
    const iv = Buffer.from(keys.iv);
    if (iv.length !== TLS_IV_SIZE_BYTES) {
      throw new MemcloudError('ERR_INTERNAL', `TLS iv: expected 12 bytes, got ${iv.length}`);
    }
    this.#iv0 = iv.readUInt32LE(0);
    this.#iv1 = iv.readUInt32LE(4);
    this.#iv2 = iv.readUInt32LE(8);
    iv.fill(0);
    this.#key = new AeadKey(keys.key);
  }

  /** Opens the record at `from[recordAt]` into `into[intoAt]`; false when it does not verify. */
  open(
    from: NativeBuffer,
    recordAt: number,
    ciphertextLength: number,
    into: NativeBuffer,
    intoAt: number,
  ): boolean {
    const length = ciphertextLength - TLS_TAG_SIZE_BYTES;
    const header = addressIn(from, recordAt, TLS_RECORD_HEADER_SIZE_BYTES + ciphertextLength);
    const message = this.#message;
    message.aad = header;
    message.aadLength = TLS_RECORD_HEADER_SIZE_BYTES;
    message.input = header + TLS_RECORD_HEADER_SIZE_BYTES;
    message.length = length;
    message.output = addressIn(into, intoAt, length);
    message.tag = message.input + length;
    const sequence = this.#next();
    return this.#key.open(this.#iv0, this.#word1(sequence), this.#word2(sequence), message);
  }

  /**
   * Seals `from[contentAt, + length)` as a record whose header is already at `into[recordAt]`. The
   * byte behind the content is borrowed for its type while the cipher runs.
   */
  seal(
    from: NativeBuffer,
    contentAt: number,
    length: number,
    into: NativeBuffer,
    recordAt: number,
  ): void {
    const recordLength = TLS_RECORD_HEADER_SIZE_BYTES + length + 1 + TLS_TAG_SIZE_BYTES;
    const header = addressIn(into, recordAt, recordLength);
    const message = this.#message;
    message.aad = header;
    message.aadLength = TLS_RECORD_HEADER_SIZE_BYTES;
    message.input = addressIn(from, contentAt, length + 1);
    message.length = length + 1;
    message.output = header + TLS_RECORD_HEADER_SIZE_BYTES;
    message.tag = message.output + length + 1;
    const sequence = this.#next();
    const typeAt = contentAt + length;
    const behind = from.bytes[typeAt] ?? 0;
    from.bytes[typeAt] = TLS_CONTENT_TYPE_APPLICATION_DATA;
    this.#key.seal(this.#iv0, this.#word1(sequence), this.#word2(sequence), message);
    from.bytes[typeAt] = behind;
  }

  destroy(): void {
    this.#key.destroy();
  }

  #next(): number {
    const sequence = this.#sequence;
    if (sequence >= Number.MAX_SAFE_INTEGER) {
      throw new MemcloudError('ERR_PEER_PROTOCOL', 'a data connection ran out of record numbers');
    }
    this.#sequence = sequence + 1;
    return sequence;
  }

  /** Nonce: the record number, big endian at the end of 12 bytes, XOR the iv. RFC 8446 5.3. */
  #word1(sequence: number): number {
    return (this.#iv1 ^ swapBytes(Math.floor(sequence / 2 ** 32))) >>> 0;
  }

  #word2(sequence: number): number {
    return (this.#iv2 ^ swapBytes(sequence >>> 0)) >>> 0;
  }
}

function swapBytes(word: number): number {
  return (
    ((word & 0xff) << 24) |
    ((word & 0xff00) << 8) |
    ((word >>> 8) & 0xff00) |
    ((word >>> 24) & 0xff)
  );
}
