/**
 * Sealed pages (DESIGN D2). A page leaves the machine only encrypted and authenticated under a
 * random key of its volume, so that no provider can read it, alter it, give another page for it or
 * an older version of it: nonce and associated data name the page and the version that the
 * consumer's own page map expects.
 *
 * nonce = page (u32) | version (u64), little endian; versions come from one counter of the volume
 * that only grows, so no nonce is used twice under a key. Associated data = volume id (16 bytes) |
 * page (u32) | version (u64). Sealed page = 4096 bytes of ciphertext | 16 bytes of tag.
 */
import { randomBytes } from 'node:crypto';
import { AEAD_KEY_SIZE_BYTES, AeadKey, emptyAeadMessage } from '../common/aead.ts';
import { MemcloudError } from '../common/errors.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES, VOLUME_SECRETS_SIZE_BYTES } from '../common/units.ts';
import type { PageGuard } from './page-guard.ts';

const VOLUME_ID_SIZE_BYTES = 16;
const AAD_SIZE_BYTES = VOLUME_ID_SIZE_BYTES + 12;

/** Seals and opens the pages of one volume. */
export class PageSealer implements PageGuard {
  /** The random name of the volume in associated data, hex. */
  readonly volumeId: string;
  readonly #key: AeadKey;
  /** The key once more, for a successor of this process: libcrypto does not give it back. */
  readonly #secret = new NativeMemory(AEAD_KEY_SIZE_BYTES, { lock: true, secret: true });
  readonly #aad: NativeMemory;
  readonly #aadWords: Uint32Array;
  readonly #message = emptyAeadMessage();
  #destroyed = false;

  /**
   * Makes a random key that exists nowhere else; the pages die with it.
   *
   * @param secrets - 32 and 16 bytes instead of random ones, for tests with known answers; the key
   *   is zeroed
   */
  constructor(
    secrets: { key: Uint8Array; volumeId: Uint8Array } = {
      key: randomBytes(AEAD_KEY_SIZE_BYTES),
      volumeId: randomBytes(VOLUME_ID_SIZE_BYTES),
    },
  ) {
    const { key, volumeId } = secrets;
    this.#key = new AeadKey(key);
    this.#secret.bytes.set(key);
    key.fill(0);
    this.volumeId = Buffer.from(volumeId).toString('hex');
    this.#aad = new NativeMemory(AAD_SIZE_BYTES, { lock: true });
    this.#aad.bytes.set(volumeId);
    const { buffer, byteOffset } = this.#aad.bytes;
    this.#aadWords = new Uint32Array(buffer, byteOffset + VOLUME_ID_SIZE_BYTES, 3);
    this.#message.aad = this.#aad.address;
    this.#message.aadLength = AAD_SIZE_BYTES;
    this.#message.length = PAGE_SIZE_BYTES;
  }

  /**
   * Seals a page.
   *
   * @param page - page number, u32
   * @param versionLow - low 32 bits of a version never used for any page of this volume
   * @param versionHigh - its high 32 bits
   * @param from - address of 4096 bytes
   * @param to - address that receives 4112 bytes
   */
  seal(page: number, versionLow: number, versionHigh: number, from: number, to: number): void {
    this.#name(page, versionLow, versionHigh);
    const message = this.#message;
    message.input = from;
    message.output = to;
    message.tag = to + PAGE_SIZE_BYTES;
    this.#key.seal(page, versionLow, versionHigh, message);
  }

  /**
   * Opens a sealed page.
   *
   * @param from - address of 4112 bytes
   * @param to - address that receives 4096 bytes
   * @returns false when it is not that version of that page of this volume; `to` then holds garbage
   */
  open(page: number, versionLow: number, versionHigh: number, from: number, to: number): boolean {
    this.#name(page, versionLow, versionHigh);
    const message = this.#message;
    message.input = from;
    message.output = to;
    message.tag = from + PAGE_SIZE_BYTES;
    return this.#key.open(page, versionLow, versionHigh, message);
  }

  /**
   * Copies the key and the random name of the volume, for a successor of this process.
   *
   * @param into - {@link VOLUME_SECRETS_SIZE_BYTES} bytes of locked memory, to be zeroed by its owner
   */
  exportSecrets(into: Buffer): void {
    if (this.#destroyed) throw new MemcloudError('ERR_INTERNAL', 'sealer used after its end');
    into.set(this.#secret.bytes.subarray(0, AEAD_KEY_SIZE_BYTES));
    into.set(this.#aad.bytes.subarray(0, VOLUME_ID_SIZE_BYTES), AEAD_KEY_SIZE_BYTES);
  }

  /** Makes the sealer of the volume whose secrets {@link PageSealer.exportSecrets} gave; zeroes them. */
  static fromSecrets(secrets: Buffer): PageSealer {
    const sealer = new PageSealer({
      key: secrets.subarray(0, AEAD_KEY_SIZE_BYTES),
      volumeId: secrets.subarray(AEAD_KEY_SIZE_BYTES, VOLUME_SECRETS_SIZE_BYTES),
    });
    secrets.fill(0);
    return sealer;
  }

  /** Destroys the key: every copy of every page, wherever it is, is noise from now on. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#key.destroy();
    this.#secret.free();
    this.#aad.free();
  }

  #name(page: number, versionLow: number, versionHigh: number): void {
    if (this.#destroyed) throw new MemcloudError('ERR_INTERNAL', 'sealer used after its end');
    const words = this.#aadWords;
    words[0] = page;
    words[1] = versionLow;
    words[2] = versionHigh;
  }
}
