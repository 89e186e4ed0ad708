/**
 * The transmission phase of one connection, in the order in which a request travels: parsed straight
 * out of the stream's input buffer, judged by `transmission.ts`, given a slot, handed to the block
 * device, ended by the device in any order, answered by `reply-writer.ts`.
 *
 * A write whose data lies whole in the input goes to the device from there, with no copy. One that
 * does not is either waited for (up to a quarter of the input buffer) or gathered into a pooled
 * buffer. Nothing is read while slots, buffers or output are at their bounds: the socket's window
 * then closes, and the client waits.
 */
import type { ByteStreamHandler } from '../common/byte-stream.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import {
  IoStatus,
  type BlockCompletionSink,
  type BlockQueue,
  type IoStatusValue,
} from '../common/ports.ts';
import { NO_BUFFER, type BufferPool } from './buffer-pool.ts';
import {
  NBD_ALLOCATION_CONTEXT_ID,
  NBD_CMD,
  NBD_CMD_FLAG,
  NBD_ERROR,
  NBD_PAYLOAD_SKIP_SIZE_MAX_BYTES,
  type NbdError,
} from './constants.ts';
import { InFlight, REQUEST_COUNT_MAX } from './in-flight.ts';
import {
  decodeRequest,
  decodeUint64,
  payloadSizeBytes,
  RequestHeader,
  requestSizeBytes,
} from './message-codec.ts';
import { OUTPUT_BACKLOG_MAX_BYTES, ReplyWriter } from './reply-writer.ts';
import { NO_SLOT, type RequestSlots } from './request-slots.ts';
import type { SessionCounters, SessionParts, ActivityListener } from './session-parts.ts';
import { STREAM_INPUT_SIZE_BYTES, type NbdStream } from '../common/nbd-stream.ts';
import {
  ioStatusToNbdError,
  isDisconnect,
  validateBlockStatus,
  validateRequest,
  type TransmissionTerms,
} from './transmission.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES } = NBD_CMD;
const { NBD_CMD_FLAG_FUA } = NBD_CMD_FLAG;

/** A write up to this long is waited for in the input; a longer one is gathered. */
const INPUT_WAIT_MAX_BYTES = STREAM_INPUT_SIZE_BYTES / 4;

/** One client in the transmission phase. */
export class TransmissionSession implements ByteStreamHandler, BlockCompletionSink {
  readonly #stream: NbdStream;
  readonly #terms: TransmissionTerms;
  readonly #pool: BufferPool;
  readonly #counters: SessionCounters;
  readonly #parts: SessionParts;
  readonly #spin: ActivityListener | undefined;
  readonly #queue: BlockQueue;
  readonly #inFlight: InFlight;
  readonly #slots: RequestSlots;
  readonly #inDevice = new Uint8Array(REQUEST_COUNT_MAX);
  readonly #writer: ReplyWriter;
  readonly #header = new RequestHeader();
  readonly #headerSize: number;
  #input: NativeBuffer | undefined;
  #inputView: DataView = new DataView(new ArrayBuffer(0));
  #gatherSlot = NO_SLOT;
  #gathered = 0;
  #skipBytes = 0;
  #skipSlot = NO_SLOT;
  #stalled = false;
  /** Nothing is parsed: another process is to go on with the connection. */
  #holding = false;
  #draining = false;
  #ending = false;
  #closed = false;
  #ended = false;

  /** @param parts - what it works on */
  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#stream = parts.stream;
    this.#terms = parts.terms;
    this.#pool = parts.pool;
    this.#inFlight = new InFlight(parts.pool);
    this.#slots = this.#inFlight.slots;
    this.#counters = parts.counters;
    this.#spin = parts.spin;
    this.#headerSize = requestSizeBytes(parts.terms.mode);
    this.#writer = new ReplyWriter({
      stream: parts.stream,
      slots: this.#slots,
      pool: parts.pool,
      device: parts.device,
      mode: parts.terms.mode,
      onReplied: (slot) => this.#onReplied(slot),
    });
    this.#queue = parts.device.openQueue(this);
  }

  /** What was negotiated. */
  get terms(): TransmissionTerms {
    return this.#terms;
  }

  /**
   * Takes no further request until {@link TransmissionSession.goOn}; one whose payload is under way is
   * still gathered. What is in flight ends and is answered.
   */
  hold(): void {
    this.#holding = true;
    if (this.#betweenRequests) this.#stream.pause();
  }

  /** True when no request is in flight or half read, and every reply has left for the socket. */
  get held(): boolean {
    const { usedCount } = this.#slots;
    const quiet = this.#betweenRequests && usedCount === 0 && this.#stream.backlogBytes === 0;
    return this.#holding && quiet && !this.#ending && !this.#closed;
  }

  /** Takes requests again. */
  goOn(): void {
    this.#holding = false;
    if (this.#stalled) this.#maybeResume();
    else if (!this.#closed && !this.#ending) this.#stream.resume();
  }

  /** Requests in flight. */
  get inFlightCount(): number {
    return this.#slots.usedCount;
  }

  /** Parses requests; {@link ByteStreamHandler}. */
  onBytes(input: NativeBuffer, start: number, end: number): number {
    if (this.#ending || this.#closed) return end;
    this.#spin?.onActivity(this.#stream);
    try {
      return this.#parse(input, start, end);
    } catch (thrown) {
      this.#fail(thrown);
      return end;
    }
  }

  /** The output has room again; {@link ByteStreamHandler}. */
  onDrain(): void {
    try {
      this.#writer.pump();
      if (this.#stalled) this.#maybeResume();
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  /** The stream is gone; {@link ByteStreamHandler}. */
  onClosed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#spin?.forget(this.#stream);
    this.#queue.close();
    this.#writer.discard();
    const unfinished = this.#gatherSlot !== NO_SLOT ? this.#gatherSlot : this.#skipSlot;
    this.#gatherSlot = this.#skipSlot = NO_SLOT;
    if (unfinished !== NO_SLOT) this.#onReplied(unfinished);
    this.#maybeEnd();
  }

  /** Stops serving: what is in flight is finished, what comes now gets ESHUTDOWN, then the end. */
  drain(): void {
    this.#draining = true;
    this.#maybeEnd();
  }

  /** A page call ended; {@link BlockCompletionSink}. */
  onBlockDone(tag: number, status: IoStatusValue): void {
    if (this.#inDevice[tag] !== 1) {
      throw new MemcloudError('ERR_INTERNAL', `request slot ${tag} ended twice or never began`);
    }
    const { command, flags } = this.#slots;
    const fua = ((flags[tag] ?? 0) & NBD_CMD_FLAG_FUA) !== 0;
    if (fua && command[tag] === NBD_CMD_TRIM && status === IoStatus.OK && !this.#closed) {
      // A trim has no force-unit-access of its own: the flush that follows covers it.
      flags[tag] = 0;
      this.#queue.flush(tag);
      return;
    }
    this.#inDevice[tag] = 0;
    this.#finish(tag, ioStatusToNbdError(status));
  }

  #parse(input: NativeBuffer, start: number, end: number): number {
    if (input !== this.#input) {
      const { buffer, byteOffset, byteLength } = input.bytes;
      this.#input = input;
      this.#inputView = new DataView(buffer, byteOffset, byteLength);
    }
    let at = start;
    while (at < end && !this.#ending) {
      let next = at;
      if (this.#holding && this.#betweenRequests) {
        this.#stream.pause();
        break;
      }
      if (this.#skipBytes > 0) next = this.#skip(at, end);
      else if (this.#gatherSlot !== NO_SLOT) next = this.#gather(input, at, end);
      else if (end - at >= this.#headerSize) next = this.#takeRequest(input, at, end);
      if (next === at) break;
      at = next;
    }
    return this.#ending ? end : at;
  }

  get #betweenRequests(): boolean {
    return this.#skipBytes === 0 && this.#gatherSlot === NO_SLOT;
  }

  #skip(at: number, end: number): number {
    const length = Math.min(this.#skipBytes, end - at);
    this.#skipBytes -= length;
    if (this.#skipBytes === 0) {
      const slot = this.#skipSlot;
      this.#skipSlot = NO_SLOT;
      this.#writer.finish(slot);
    }
    return at + length;
  }

  #gather(input: NativeBuffer, at: number, end: number): number {
    const slot = this.#gatherSlot;
    const buffer = this.#slots.buffer[slot] ?? NO_BUFFER;
    const total = this.#slots.length[slot] ?? 0;
    const length = Math.min(total - this.#gathered, end - at);
    this.#pool.view(buffer).set(input.bytes.subarray(at, at + length), this.#gathered);
    this.#gathered += length;
    if (this.#gathered === total) {
      this.#gatherSlot = NO_SLOT;
      this.#writePooled(slot, buffer);
    }
    return at + length;
  }

  /** Handles the request at `at`; returns where the next one begins, or `at` to wait. */
  #takeRequest(input: NativeBuffer, at: number, end: number): number {
    const header = this.#header;
    if (this.#stream.backlogBytes > OUTPUT_BACKLOG_MAX_BYTES) return this.#stall(at);
    if (!decodeRequest(this.#inputView, at, this.#terms.mode, header)) {
      return this.#breach('a request with a wrong magic', end);
    }
    if (isDisconnect(header)) {
      this.#ending = true;
      this.#maybeEnd();
      return end;
    }
    const payloadSize = payloadSizeBytes(header, this.#terms.mode);
    if (payloadSize > NBD_PAYLOAD_SKIP_SIZE_MAX_BYTES) {
      return this.#breach(`a request with ${payloadSize} bytes of payload`, end);
    }
    const error = this.#draining ? NBD_ERROR.NBD_ESHUTDOWN : validateRequest(header, this.#terms);
    const payloadAt = at + this.#headerSize;
    if (error !== NBD_ERROR.NBD_OK) return this.#refuse(error, at, payloadAt + payloadSize, end);
    if (header.command === NBD_CMD_WRITE && header.length > 0) {
      return this.#takeWrite(input, at, payloadAt, end);
    }
    if (payloadSize > 0) return this.#takeBlockStatus(at, payloadAt, end);
    const slot = this.#inFlight.takeSlot(header);
    if (slot === NO_SLOT) return this.#stall(at);
    return this.#execute(slot) ? payloadAt : this.#stall(at);
  }

  /**
   * Answers with an error. A client may still be sending the payload and know of no reply before it
   * has sent all, so the payload is skipped first.
   */
  #refuse(error: NbdError, at: number, requestEnd: number, end: number): number {
    const slot = this.#inFlight.takeSlot(this.#header);
    if (slot === NO_SLOT) return this.#stall(at);
    this.#count(slot, error);
    if (requestEnd > end) {
      this.#skipBytes = requestEnd - end;
      this.#skipSlot = slot;
      return end;
    }
    this.#writer.finish(slot);
    return requestEnd;
  }

  #takeWrite(input: NativeBuffer, at: number, payloadAt: number, end: number): number {
    const { offset, length, flags } = this.#header;
    const payloadEnd = payloadAt + length;
    if (payloadEnd > end && length <= INPUT_WAIT_MAX_BYTES) return at;
    const slot = this.#inFlight.takeSlot(this.#header);
    if (slot === NO_SLOT) return this.#stall(at);
    if (payloadEnd <= end) {
      const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
      this.#inDevice[slot] = 1;
      if (this.#queue.tryWrite(slot, offset, length, input, payloadAt, fua)) return payloadEnd;
      this.#inDevice[slot] = 0;
    }
    const buffer = this.#inFlight.takeBuffer(slot, length);
    if (buffer === NO_BUFFER) {
      this.#inFlight.release(slot);
      return this.#stall(at);
    }
    this.#gatherSlot = slot;
    this.#gathered = 0;
    return payloadAt;
  }

  #writePooled(slot: number, buffer: number): void {
    const { offset, length, flags } = this.#slots;
    const fua = ((flags[slot] ?? 0) & NBD_CMD_FLAG_FUA) !== 0;
    const memory = this.#pool.memory(buffer);
    const from = this.#pool.offset(buffer);
    this.#inDevice[slot] = 1;
    this.#queue.write(slot, offset[slot] ?? 0, length[slot] ?? 0, memory, from, fua);
  }

  /** BLOCK_STATUS with a payload: the effect length, then the ids asked about, of which we have one. */
  #takeBlockStatus(at: number, payloadAt: number, end: number): number {
    const header = this.#header;
    if (payloadAt + header.length > end) return at;
    const requestEnd = payloadAt + header.length;
    const view = this.#inputView;
    header.length = decodeUint64(view, payloadAt);
    const known = view.getUint32(payloadAt + 8) === NBD_ALLOCATION_CONTEXT_ID;
    const error = known
      ? validateBlockStatus(header.offset, header.length, this.#terms)
      : NBD_ERROR.NBD_EINVAL;
    const slot = this.#inFlight.takeSlot(header);
    if (slot === NO_SLOT) return this.#stall(at);
    this.#finish(slot, error);
    return requestEnd;
  }

  /** Hands a request without payload to the device; false when there is no buffer for its answer. */
  #execute(slot: number): boolean {
    const { command, offset, length, flags } = this.#header;
    if (command === NBD_CMD_FLUSH) {
      this.#inDevice[slot] = 1;
      this.#queue.flush(slot);
      return true;
    }
    if (length === 0) {
      this.#finish(slot, NBD_ERROR.NBD_OK);
      return true;
    }
    switch (command) {
      case NBD_CMD_READ: {
        const buffer = this.#inFlight.takeBuffer(slot, length);
        if (buffer === NO_BUFFER) {
          this.#inFlight.release(slot);
          return false;
        }
        this.#inDevice[slot] = 1;
        const memory = this.#pool.memory(buffer);
        this.#queue.read(slot, offset, length, memory, this.#pool.offset(buffer));
        return true;
      }
      case NBD_CMD_TRIM:
        this.#inDevice[slot] = 1;
        this.#queue.trim(slot, offset, length);
        return true;
      case NBD_CMD_WRITE_ZEROES:
        this.#inDevice[slot] = 1;
        this.#queue.writeZeroes(slot, offset, length, (flags & NBD_CMD_FLAG_FUA) !== 0);
        return true;
      default:
        // CACHE has nothing to do, BLOCK_STATUS is answered when its reply is written.
        this.#finish(slot, NBD_ERROR.NBD_OK);
        return true;
    }
  }

  #finish(slot: number, error: NbdError): void {
    this.#count(slot, error);
    if (this.#closed) this.#onReplied(slot);
    else this.#writer.finish(slot);
  }

  #count(slot: number, error: NbdError): void {
    const { requests } = this.#counters;
    const command = this.#slots.command[slot] ?? 0;
    if (command < requests.length) requests[command] = (requests[command] ?? 0) + 1;
    if (error !== NBD_ERROR.NBD_OK) this.#counters.errors += 1;
    this.#slots.error[slot] = error;
  }

  #onReplied(slot: number): void {
    this.#inFlight.release(slot);
    if (this.#stalled) this.#maybeResume();
    if (this.#closed || this.#ending || this.#draining) this.#maybeEnd();
  }

  #stall(at: number): number {
    if (!this.#stalled) {
      this.#stalled = true;
      this.#stream.pause();
    }
    return at;
  }

  #maybeResume(): void {
    if (this.#holding) return;
    const room = this.#stream.backlogBytes <= OUTPUT_BACKLOG_MAX_BYTES / 2;
    if (!room || !this.#inFlight.hasRoom || this.#closed || this.#ending) return;
    this.#stalled = false;
    this.#stream.resume();
  }

  #breach(what: string, end: number): number {
    this.#ending = true;
    this.#parts.onBreach(new MemcloudError('ERR_NBD_PROTOCOL', `the client sent ${what}`));
    return end;
  }

  /** A defect of ours or of the device: this connection ends, the others go on. */
  #fail(thrown: unknown): void {
    this.#ending = true;
    this.#parts.onBreach(asMemcloudError(thrown));
  }

  #maybeEnd(): void {
    if (this.#slots.usedCount > 0 || this.#ended) return;
    if (this.#closed) {
      this.#ended = true;
      this.#parts.onEnded();
    } else {
      this.#ending = true;
      this.#parts.onFinished();
    }
  }
}
