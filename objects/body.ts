/**
 * The primitives of object bodies (docs/peer-protocol.md section 12), little endian: numbers, texts that
 * say their length first, and rest. Reading is bounded by what is there: nothing is made that is longer
 * than what was read. A codec; pure and total.
 */
import { isUtf8 } from 'node:buffer';
import { MemcloudError } from '../common/errors.ts';

const UINT32_COUNT = 2 ** 32;
/** High half of 2^53 - 1. */
const SAFE_HIGH_MAX = 2 ** 21 - 1;

/** Throws ERR_PEER_PROTOCOL: the bytes are no body. */
export function refuse(message: string): never {
  throw new MemcloudError('ERR_PEER_PROTOCOL', `object body: ${message}`);
}

/** Takes a body apart from its beginning. */
export class BodyReader {
  readonly #bytes: Buffer;
  #at = 0;

  /** @param bytes - borrowed for the reader's life */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** An octet. */
  u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  /** An octet that is one of `count` from 0 on. */
  choice(count: number, what: string): number {
    const value = this.u8();
    if (value >= count) refuse(`${what}: expected less than ${count}, got ${value}`);
    return value;
  }

  /** 16 bits. */
  u16(): number {
    return this.#bytes.readUInt16LE(this.#take(2));
  }

  /** 64 bits, at most 2^53 - 1. */
  safe(what: string): number {
    const at = this.#take(8);
    const high = this.#bytes.readUInt32LE(at + 4);
    if (high > SAFE_HIGH_MAX) refuse(`${what}: beyond 2^53 - 1`);
    return high * UINT32_COUNT + this.#bytes.readUInt32LE(at);
  }

  /** 64 bits as a decimal number. */
  u64(): string {
    return this.#bytes.readBigUInt64LE(this.#take(8)).toString();
  }

  /** A text of at most `sizeMax` bytes of UTF-8. */
  text(sizeMax: number, what: string): string {
    const bytes = this.short(sizeMax, what);
    if (!isUtf8(bytes)) refuse(`${what}: not UTF-8`);
    return bytes.toString('utf8');
  }

  /** At most `sizeMax` bytes behind their length; borrowed. */
  short(sizeMax: number, what: string): Buffer {
    const length = this.u16();
    if (length > sizeMax) refuse(`${what}: expected at most ${sizeMax} bytes, got ${length}`);
    return this.fixed(length);
  }

  /** `length` bytes; borrowed. */
  fixed(length: number): Buffer {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Everything that is left, at most `sizeMax` bytes; borrowed. */
  rest(sizeMax: number, what: string): Buffer {
    const length = this.#bytes.length - this.#at;
    if (length > sizeMax) refuse(`${what}: expected at most ${sizeMax} bytes, got ${length}`);
    return this.fixed(length);
  }

  /** @throws MemcloudError `ERR_PEER_PROTOCOL` when something is left */
  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) refuse(`${left} bytes too many`);
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) refuse('it is cut off');
    this.#at += length;
    return at;
  }
}

/** Puts a body together. The caller keeps within the capacity. */
export class BodyWriter {
  /** Bytes written so far. */
  length = 0;
  readonly #bytes: Buffer;

  /** @param capacityBytes - the most that is written */
  constructor(capacityBytes: number) {
    this.#bytes = Buffer.allocUnsafe(capacityBytes);
  }

  /** What was written, the caller's. */
  take(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }

  /** An octet. */
  u8(value: number): this {
    this.length = this.#bytes.writeUInt8(value, this.length);
    return this;
  }

  /** 16 bits. */
  u16(value: number): this {
    this.length = this.#bytes.writeUInt16LE(value, this.length);
    return this;
  }

  /** 64 bits of a number up to 2^53 - 1. */
  safe(value: number): this {
    const at = this.#bytes.writeUInt32LE(value % UINT32_COUNT, this.length);
    this.length = this.#bytes.writeUInt32LE(Math.floor(value / UINT32_COUNT), at);
    return this;
  }

  /** 64 bits of a decimal number. */
  u64(value: string): this {
    this.length = this.#bytes.writeBigUInt64LE(BigInt(value), this.length);
    return this;
  }

  /** A text behind its length in bytes. */
  text(value: string): this {
    const start = this.length;
    const length = this.#bytes.write(value, start + 2);
    this.#bytes.writeUInt16LE(length, start);
    this.length = start + 2 + length;
    return this;
  }

  /** Bytes behind their length. */
  short(value: Uint8Array): this {
    return this.u16(value.length).fixed(value);
  }

  /** Bytes. */
  fixed(value: Uint8Array): this {
    this.#bytes.set(value, this.length);
    this.length += value.length;
    return this;
  }
}
