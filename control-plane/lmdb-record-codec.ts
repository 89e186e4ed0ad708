/**
 * How the embedded store lays its entries down in lmdb, one ordered map of bytes. A record's key begins
 * with a byte that says what it is:
 *
 *   `e` KEY            an entry: revision (u64), store lease (u64, 0: none), value (UTF-8), and a CRC-32
 *                      (u32) of KEY and all that: lmdb has no checksums, and what a bad disk or a cut-off
 *                      file brings back is to be an error
 *   `l` LEASE KEY      the entry KEY lies under the store lease LEASE (u64); empty
 *   `r`                the revision of the last change (u64)
 *   `v`                the version of this layout (u64)
 *
 * Numbers are big-endian. Pure and total: any bytes give a value or `ERR_CONTROL_STORE`.
 */
import { crc32 } from 'node:zlib';
import { storeError } from './meta-checks.ts';

/** The layout that this program writes. */
export const LAYOUT_VERSION = 1;

const ENTRY_TAG = 0x65;
const LEASED_TAG = 0x6c;
const NUMBER_SIZE_BYTES = 8;
const ENTRY_HEADER_SIZE_BYTES = 2 * NUMBER_SIZE_BYTES;
const CHECKSUM_SIZE_BYTES = 4;
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The key of the record of the last revision. */
export const REVISION_KEY = Buffer.from('r');
/** The key of the record of the layout's version. */
export const VERSION_KEY = Buffer.from('v');

/** What an entry's record holds. */
export interface EntryRecord {
  readonly revision: number;
  /** The number of the store lease that it lies under; 0: none. */
  readonly lease: number;
  /** UTF-8. */
  readonly value: Buffer;
}

/** The key of an entry's record. */
export function entryKey(key: Buffer): Buffer {
  return Buffer.concat([Buffer.of(ENTRY_TAG), key]);
}

/** The key within {@link entryKey}, borrowed. */
export function keyOfEntry(record: Buffer): Buffer {
  return record.subarray(1);
}

/** What the keys of all entries begin with. */
export function entryPrefix(): Buffer {
  return Buffer.of(ENTRY_TAG);
}

/** The key of the record that says that an entry lies under a lease. */
export function leasedKey(lease: number, key: Buffer): Buffer {
  return Buffer.concat([leasedPrefix(lease), key]);
}

/** What the keys of all entries under a lease begin with. */
export function leasedPrefix(lease: number): Buffer {
  return Buffer.concat([Buffer.of(LEASED_TAG), encodeNumber(lease)]);
}

/** What the keys of all entries under any lease begin with. */
export function anyLeasedPrefix(): Buffer {
  return Buffer.of(LEASED_TAG);
}

/** The key of the entry within {@link leasedKey}. */
export function keyOfLeased(record: Buffer): Buffer {
  if (record.length > 1 + NUMBER_SIZE_BYTES) return record.subarray(1 + NUMBER_SIZE_BYTES);
  return damaged('the key of an entry under a lease', record.length);
}

/** Encodes an entry. */
export function encodeEntry(key: Buffer, { revision, lease, value }: EntryRecord): Buffer {
  const bytes = Buffer.alloc(ENTRY_HEADER_SIZE_BYTES + value.length + CHECKSUM_SIZE_BYTES);
  bytes.writeBigUInt64BE(BigInt(revision), 0);
  bytes.writeBigUInt64BE(BigInt(lease), NUMBER_SIZE_BYTES);
  value.copy(bytes, ENTRY_HEADER_SIZE_BYTES);
  const end = bytes.length - CHECKSUM_SIZE_BYTES;
  bytes.writeUInt32BE(crc32(bytes.subarray(0, end), crc32(key)), end);
  return bytes;
}

/**
 * Decodes the entry of `key`; its value borrows `bytes`.
 *
 * @throws MemcloudError `ERR_CONTROL_STORE`
 */
export function decodeEntry(key: Buffer, bytes: Buffer): EntryRecord {
  const end = bytes.length - CHECKSUM_SIZE_BYTES;
  if (end < ENTRY_HEADER_SIZE_BYTES) return damaged('an entry', bytes.length);
  if (bytes.readUInt32BE(end) !== crc32(bytes.subarray(0, end), crc32(key))) {
    throw storeError('the embedded store is damaged: the checksum of an entry does not fit');
  }
  return {
    revision: decodeNumber(bytes.subarray(0, NUMBER_SIZE_BYTES)),
    lease: decodeNumber(bytes.subarray(NUMBER_SIZE_BYTES, ENTRY_HEADER_SIZE_BYTES)),
    value: bytes.subarray(ENTRY_HEADER_SIZE_BYTES, end),
  };
}

/** Encodes a number below 2^53. */
export function encodeNumber(number: number): Buffer {
  const bytes = Buffer.alloc(NUMBER_SIZE_BYTES);
  bytes.writeBigUInt64BE(BigInt(number));
  return bytes;
}

/** Decodes a number below 2^53. @throws MemcloudError `ERR_CONTROL_STORE` */
export function decodeNumber(bytes: Buffer): number {
  if (bytes.length !== NUMBER_SIZE_BYTES) return damaged('a number', bytes.length);
  const number = bytes.readBigUInt64BE();
  if (number <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(number);
  throw storeError('the embedded store is damaged: a number in it is beyond 2^53');
}

/** Decodes text. @throws MemcloudError `ERR_CONTROL_STORE` */
export function utf8(bytes: Uint8Array): string {
  try {
    return utf8Decoder.decode(bytes);
  } catch (cause) {
    throw storeError('the embedded store is damaged: a text in it is not UTF-8', cause);
  }
}

function damaged(what: string, sizeBytes: number): never {
  throw storeError(`the embedded store is damaged: ${what} of ${sizeBytes} bytes`);
}
