/**
 * Reads the MessagePack of control bodies (msgpack spec, `spec.md`), from peers that may be hostile.
 * A general decoder allocates what a length field claims before it has seen the bytes; this one
 * takes only the types that our schemas use, never makes more than it has read, and bounds depth and
 * count. msgpackr writes the bodies and is the oracle in the tests. A codec; pure.
 */
import { MemcloudError } from '../common/errors.ts';

/** Nesting of maps and arrays. */
const DEPTH_MAX = 4;
/** Values in one body. */
const VALUE_COUNT_MAX = 4096;

/** A map of a body; its prototype is null, so that no name is special. */
export type PackedMap = Record<string, unknown>;

function fail(message: string): never {
  throw new MemcloudError('ERR_PEER_PROTOCOL', `control body: ${message}`);
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  #count = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  value(depth: number): unknown {
    this.#count += 1;
    if (this.#count > VALUE_COUNT_MAX) fail(`more than ${VALUE_COUNT_MAX} values`);
    const tag = this.#uint(1);
    if (tag <= 0x7f) return tag;
    if (tag <= 0x8f) return this.#map(tag & 0x0f, depth);
    if (tag <= 0x9f) return this.#array(tag & 0x0f, depth);
    if (tag <= 0xbf) return this.#string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.#tagged(tag, depth);
  }

  #tagged(tag: number, depth: number): unknown {
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xcb:
        return this.#bytes.readDoubleBE(this.#take(8));
      case 0xcc:
        return this.#uint(1);
      case 0xcd:
        return this.#uint(2);
      case 0xce:
        return this.#uint(4);
      case 0xcf:
        return this.#safe(this.#bytes.readBigUInt64BE(this.#take(8)));
      case 0xd0:
        return this.#bytes.readInt8(this.#take(1));
      case 0xd1:
        return this.#bytes.readInt16BE(this.#take(2));
      case 0xd2:
        return this.#bytes.readInt32BE(this.#take(4));
      case 0xd3:
        return this.#safe(this.#bytes.readBigInt64BE(this.#take(8)));
      case 0xd9:
        return this.#string(this.#uint(1));
      case 0xda:
        return this.#string(this.#uint(2));
      case 0xdc:
        return this.#array(this.#uint(2), depth);
      case 0xde:
        return this.#map(this.#uint(2), depth);
      default:
        return fail(`MessagePack type 0x${tag.toString(16)} is not used`);
    }
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) fail('it is cut off');
    this.#at += length;
    return at;
  }

  #uint(size: 1 | 2 | 4): number {
    return this.#bytes.readUIntBE(this.#take(size), size);
  }

  #safe(value: bigint): number {
    const number = Number(value);
    if (!Number.isSafeInteger(number)) fail('an integer is beyond 2^53 - 1');
    return number;
  }

  #string(length: number): string {
    const at = this.#take(length);
    // Invalid UTF-8 becomes U+FFFD, which no schema of ours accepts where it matters.
    return this.#bytes.toString('utf8', at, at + length);
  }

  #array(count: number, depth: number): unknown[] {
    if (depth >= DEPTH_MAX) fail(`nested deeper than ${DEPTH_MAX}`);
    const values: unknown[] = [];
    for (let index = 0; index < count; index += 1) values.push(this.value(depth + 1));
    return values;
  }

  #map(count: number, depth: number): PackedMap {
    if (depth >= DEPTH_MAX) fail(`nested deeper than ${DEPTH_MAX}`);
    const map = Object.create(null) as PackedMap;
    for (let index = 0; index < count; index += 1) {
      const key = this.value(DEPTH_MAX);
      if (typeof key !== 'string') fail('a map key is not a string');
      if (key in map) fail('a map key comes twice');
      map[key] = this.value(depth + 1);
    }
    return map;
  }
}

/**
 * Reads a body that must be one map.
 *
 * @param bytes - read only during the call
 * @throws MemcloudError `ERR_PEER_PROTOCOL` for anything else
 */
export function unpackMap(bytes: Buffer): PackedMap {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail('it is no map');
  if (!reader.atEnd) fail('bytes follow the map');
  return value as PackedMap;
}
