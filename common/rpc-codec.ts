/**
 * RPC framing: a 32-bit big-endian length, then a MessagePack map. Requests are `{id, method,
 * params}`, replies `{id, result}` or `{id, error: {code, message}}`; `{cancel: id}` takes a request back
 * and `{event, data}` is nobody's reply (docs/rpc.md). Both ends may send the next message without
 * waiting; replies come in any order and are matched by id.
 */
import { createRequire } from 'node:module';
import type * as Msgpackr from 'msgpackr';
import { MemcloudError } from './errors.ts';
import { DECLINED, MessagePackReader } from './message-pack-codec.ts';

/** The most bytes of one RPC message. */
export const RPC_MESSAGE_SIZE_MAX_BYTES = 1024 * 1024;

const require = createRequire(import.meta.url);

/** Loaded when it is needed, which is hardly ever: 9 MiB and a tenth of the start of a command. */
class Rare {
  static #unpackr: Msgpackr.Unpackr | undefined;
  static #packr: Msgpackr.Packr | undefined;

  static get unpackr(): Msgpackr.Unpackr {
    const options = { useRecords: false, mapsAsObjects: true, int64AsType: 'number' } as const;
    return (this.#unpackr ??= new (load().Unpackr)(options));
  }

  static get packr(): Msgpackr.Packr {
    return (this.#packr ??= new (load().Packr)({ useRecords: false }));
  }
}

function load(): typeof Msgpackr {
  return require('msgpackr') as typeof Msgpackr;
}

const HEADER_SIZE_BYTES = 4;
const NOTHING = Buffer.alloc(0);

/** Encodes one message with its length in front, for who sends few. */
export function encodeRpcMessage(message: unknown): Buffer {
  const body = Rare.packr.pack(message);
  const header = Buffer.alloc(HEADER_SIZE_BYTES);
  header.writeUInt32BE(body.length);
  return Buffer.concat([header, body]);
}

/**
 * Cuts a stream of bytes into messages. A chunk is read where it lies; what is left of it, less than a
 * message, is kept, in a buffer that grows with the bytes that came and not with the length that was said.
 */
export class RpcDecoder {
  readonly #reader: MessagePackReader;
  #held = NOTHING;
  #heldStart = 0;
  #heldEnd = 0;

  /** @param borrows - binary in a message that is given to `take` is there until that returns */
  constructor(borrows = false) {
    this.#reader = new MessagePackReader(borrows);
  }

  /**
   * Takes more bytes.
   *
   * @param chunk - borrowed until the return
   * @returns the messages that are whole now
   * @throws MemcloudError `ERR_RPC_PROTOCOL` when a message is too long or not a MessagePack map;
   *   the connection should then end
   */
  push(chunk: Buffer): Record<string, unknown>[] {
    const messages: Record<string, unknown>[] = [];
    const take = (message: Record<string, unknown>): boolean => {
      messages.push(message);
      return true;
    };
    this.feed(chunk, chunk.length, take);
    return messages;
  }

  /**
   * Takes the first `length` bytes of `chunk` and gives each message that is whole to `take`, until that
   * returns false: the rest waits for {@link drain}.
   *
   * @param chunk - borrowed until the return
   * @throws MemcloudError `ERR_RPC_PROTOCOL` as {@link push}
   */
  feed(chunk: Buffer, length: number, take: (message: Record<string, unknown>) => boolean): void {
    if (this.#heldEnd === this.#heldStart) {
      const at = this.#cut(chunk, 0, length, take);
      if (at < length) this.#hold(chunk, at, length);
    } else {
      this.#hold(chunk, 0, length);
      this.drain(take);
    }
  }

  /** Goes on with what {@link feed} left. @returns true when nothing whole is left */
  drain(take: (message: Record<string, unknown>) => boolean): boolean {
    let isWilling = true;
    this.#heldStart = this.#cut(this.#held, this.#heldStart, this.#heldEnd, (message) => {
      isWilling = take(message);
      return isWilling;
    });
    if (this.#heldStart === this.#heldEnd) {
      this.#heldStart = this.#heldEnd = 0;
      this.#held = NOTHING;
    }
    return isWilling;
  }

  /** @returns where the first message begins that was not taken */
  #cut(
    bytes: Buffer,
    start: number,
    end: number,
    take: (message: Record<string, unknown>) => boolean,
  ): number {
    let at = start;
    while (end - at >= HEADER_SIZE_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length > RPC_MESSAGE_SIZE_MAX_BYTES) {
        throw new MemcloudError(
          'ERR_RPC_PROTOCOL',
          `RPC message: expected at most ${RPC_MESSAGE_SIZE_MAX_BYTES} bytes, got ${length}`,
        );
      }
      const bodyStart = at + HEADER_SIZE_BYTES;
      if (end - bodyStart < length) break;
      at = bodyStart + length;
      if (!take(this.#decode(bytes, bodyStart, at))) break;
    }
    return at;
  }

  #decode(bytes: Buffer, start: number, end: number): Record<string, unknown> {
    const value = this.#reader.read(bytes, start, end);
    if (value === DECLINED) return decodeRareBody(Buffer.from(bytes.subarray(start, end)));
    return checkMap(value);
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const length = end - start;
    const kept = this.#heldEnd - this.#heldStart;
    if (this.#heldEnd + length > this.#held.length) {
      let size = Math.max(this.#held.length, 1024);
      while (size < kept + length) size *= 2;
      const held = size === this.#held.length ? this.#held : Buffer.allocUnsafeSlow(size);
      this.#held.copy(held, 0, this.#heldStart, this.#heldEnd);
      this.#held = held;
      this.#heldStart = 0;
      this.#heldEnd = kept;
    }
    chunk.copy(this.#held, this.#heldEnd, start, end);
    this.#heldEnd += length;
  }
}

/** What the quick reader leaves: msgpackr takes it, or says what is wrong. */
function decodeRareBody(body: Buffer): Record<string, unknown> {
  try {
    return checkMap(Rare.unpackr.unpack(body));
  } catch (error) {
    if (error instanceof MemcloudError) throw error;
    throw new MemcloudError('ERR_RPC_PROTOCOL', 'RPC message: not MessagePack', { cause: error });
  }
}

/** Extensions make dates, sets and the like: only a map is a plain object. */
function checkMap(value: unknown): Record<string, unknown> {
  if (
    typeof value !== 'object' ||
    value === null ||
    Object.getPrototypeOf(value) !== Object.prototype
  ) {
    throw new MemcloudError('ERR_RPC_PROTOCOL', 'RPC message: expected a map');
  }
  return value as Record<string, unknown>;
}
