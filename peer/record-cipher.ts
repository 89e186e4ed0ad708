/**
 * Seals and opens records in place (docs/peer-protocol.md section 5): one ChaCha20-Poly1305 message
 * each, the head encrypted, lengths and pages its associated data, the nonce the number of the record
 * in its direction. The number is not sent: a record that was dropped, repeated or moved fails its
 * tag. A number is counted when it is *taken*, before the cipher runs, so that no failure can make
 * two records share one (a MemCloud fault: the counter moved only after a successful send).
 *
 * Rekey is that of Noise (4.2 REKEY): a one-way step that both sides take at the same record; the
 * number goes on. The limits of a key are checked by both: a sender steps before them, a receiver
 * refuses what lies beyond.
 */
import { addressIn, AeadKey, emptyAeadMessage } from '../common/aead.ts';
import { MemcloudError } from '../common/errors.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import {
  RECORD_HEADER_SIZE_BYTES,
  RECORD_TAG_SIZE_BYTES,
  REKEY_AGE_MAX_MS,
  REKEY_BYTES_MAX,
  REKEY_RECORD_COUNT_MAX,
  RECORD_SIZE_MAX,
} from './constants.ts';

/** The last record number: a number that JavaScript counts exactly, far below Noise's 2^64 - 2. */
export const RECORD_NUMBER_MAX = Number.MAX_SAFE_INTEGER;

/** When a key is spent; tests make it smaller. */
export interface RekeyLimits {
  /** Records under one key. */
  readonly recordCountMax: number;
  /** Record bytes under one key. */
  readonly bytesMax: number;
  /** Milliseconds that a sender keeps a key. */
  readonly ageMaxMs: number;
}

/** The limits that the protocol names. */
export const REKEY_LIMITS: RekeyLimits = {
  recordCountMax: REKEY_RECORD_COUNT_MAX,
  bytesMax: REKEY_BYTES_MAX,
  ageMaxMs: REKEY_AGE_MAX_MS,
};

const KEY_SIZE_BYTES = 32;
const HIGH_WORD = 2 ** 32;

/** What both directions share: a key, the number of the next record, what the key has done so far. */
class RecordKey {
  protected key: AeadKey;
  protected readonly message = emptyAeadMessage();
  protected readonly limits: RekeyLimits;
  protected recordNumber: number;
  protected recordCount = 0;
  protected bytes = 0;

  /** @param key - 32 bytes, taken over and zeroed */
  constructor(key: Uint8Array, limits: RekeyLimits, firstRecordNumber: number) {
    this.key = new AeadKey(key);
    key.fill(0);
    this.limits = limits;
    this.recordNumber = firstRecordNumber;
    this.message.aadLength = RECORD_HEADER_SIZE_BYTES;
  }

  /** Drops the key. */
  destroy(): void {
    this.key.destroy();
  }

  /** REKEY(k): the first 32 bytes of 32 zeroes sealed under nonce 2^64 - 1. Noise 4.2. */
  protected stepKey(): void {
    const scratch = new NativeMemory(KEY_SIZE_BYTES + RECORD_TAG_SIZE_BYTES, {
      lock: true,
      secret: true,
    });
    const message = emptyAeadMessage();
    message.input = message.output = addressIn(scratch, 0, KEY_SIZE_BYTES);
    message.length = KEY_SIZE_BYTES;
    message.tag = addressIn(scratch, KEY_SIZE_BYTES, RECORD_TAG_SIZE_BYTES);
    this.key.seal(0, 0xffffffff, 0xffffffff, message);
    const next = new AeadKey(scratch.bytes.subarray(0, KEY_SIZE_BYTES));
    scratch.free();
    this.key.destroy();
    this.key = next;
    this.recordCount = 0;
    this.bytes = 0;
  }

  /** Points the cipher at a record and counts it. @returns its number */
  protected take(
    buffer: NativeBuffer,
    start: number,
    pagesLength: number,
    headLength: number,
  ): number {
    const size = RECORD_HEADER_SIZE_BYTES + pagesLength + headLength + RECORD_TAG_SIZE_BYTES;
    const address = addressIn(buffer, start, size);
    const message = this.message;
    message.aad = address;
    message.aad2 = address + RECORD_HEADER_SIZE_BYTES;
    message.aad2Length = pagesLength;
    message.input = message.output = address + RECORD_HEADER_SIZE_BYTES + pagesLength;
    message.length = headLength;
    message.tag = message.input + headLength;
    const number = this.recordNumber;
    this.recordNumber += 1;
    this.recordCount += 1;
    this.bytes += size;
    return number;
  }
}

/** The sending half. */
export class RecordSealer extends RecordKey {
  #keySetAtMs: number;

  constructor(key: Uint8Array, nowMs: number, limits = REKEY_LIMITS, firstRecordNumber = 0) {
    super(key, limits, firstRecordNumber);
    this.#keySetAtMs = nowMs;
  }

  /** True when the next record must be the key's last, so that it has to end with REKEY. */
  mustRekey(nowMs: number): boolean {
    return (
      this.recordCount + 1 >= this.limits.recordCountMax ||
      this.bytes + 2 * RECORD_SIZE_MAX > this.limits.bytesMax ||
      nowMs - this.#keySetAtMs >= this.limits.ageMaxMs
    );
  }

  /**
   * Encrypts the head in place and writes the tag after it. The lengths are in place.
   *
   * @throws MemcloudError `ERR_INTERNAL` when the record numbers are used up
   */
  seal(buffer: NativeBuffer, start: number, pagesLength: number, headLength: number): void {
    if (this.recordNumber > RECORD_NUMBER_MAX - 1) {
      throw new MemcloudError('ERR_INTERNAL', 'the record numbers of a session are used up');
    }
    const number = this.take(buffer, start, pagesLength, headLength);
    this.key.seal(0, number % HIGH_WORD, Math.floor(number / HIGH_WORD), this.message);
  }

  /** Steps to the next key, after the record that ended with REKEY. */
  rekey(nowMs: number): void {
    this.stepKey();
    this.#keySetAtMs = nowMs;
  }
}

/** The receiving half. */
export class RecordOpener extends RecordKey {
  constructor(key: Uint8Array, limits = REKEY_LIMITS, firstRecordNumber = 0) {
    super(key, limits, firstRecordNumber);
  }

  /**
   * Verifies a whole record and decrypts its head in place.
   *
   * @throws MemcloudError `ERR_PEER_AUTHENTICATION` when it does not verify, `ERR_PEER_PROTOCOL`
   *   when the sender kept the key beyond its limits; either ends the session
   */
  open(buffer: NativeBuffer, start: number, pagesLength: number, headLength: number): void {
    const number = this.take(buffer, start, pagesLength, headLength);
    if (
      number > RECORD_NUMBER_MAX - 1 ||
      this.recordCount > this.limits.recordCountMax ||
      this.bytes > this.limits.bytesMax
    ) {
      throw new MemcloudError('ERR_PEER_PROTOCOL', 'record: the sender did not rekey in time');
    }
    if (!this.key.open(0, number % HIGH_WORD, Math.floor(number / HIGH_WORD), this.message)) {
      throw new MemcloudError('ERR_PEER_AUTHENTICATION', 'a record did not verify');
    }
  }

  /** Steps to the next key, after a record that ended with REKEY. */
  rekey(): void {
    this.stepKey();
  }
}
