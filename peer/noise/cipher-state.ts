/**
 * The CipherState object of the Noise specification (revision 34, section 5.1) with the ChaChaPoly
 * cipher functions (section 12.3): a key, a counter, and nothing else. It serves the handshake, where
 * messages are few and small. Session records run on the same key and counter rules through
 * libcrypto (peer/record-cipher.ts); tests hold the two equal.
 */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { MemcloudError } from '../../common/errors.ts';

/** Bytes of a cipher key. Noise 4.2. */
export const KEY_SIZE_BYTES = 32;

/** The nonce kept for REKEY; no message may use it. Noise 4.2 and 5.1. */
export const NONCE_RESERVED = 2n ** 64n - 1n;

const EMPTY = new Uint8Array(0);

/** The 96-bit nonce of a counter: 32 zero bits, then the counter, little endian. Noise 12.3. */
function nonceBytes(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter, true);
  return nonce;
}

/** A symmetric key with its message counter. */
export class CipherState {
  #key: Uint8Array | undefined;
  #nonce = 0n;

  /** True once a key was set. Noise: HasKey(). */
  get hasKey(): boolean {
    return this.#key !== undefined;
  }

  /** Sets the key, copied, and the counter to 0. Noise: InitializeKey(key). */
  initializeKey(key: Uint8Array): void {
    this.destroy();
    this.#key = Uint8Array.from(key);
    this.#nonce = 0n;
  }

  /** Sets the counter. Noise: SetNonce(nonce). */
  setNonce(nonce: bigint): void {
    this.#nonce = nonce;
  }

  /**
   * Encrypts and counts; without a key returns the plaintext. Noise: EncryptWithAd(ad, plaintext).
   *
   * @throws MemcloudError `ERR_INTERNAL` when the counter reached the reserved nonce
   */
  encryptWithAd(ad: Uint8Array, plaintext: Uint8Array): Uint8Array {
    if (this.#key === undefined) return plaintext;
    const ciphertext = chacha20poly1305(this.#key, this.#nextNonce(), ad).encrypt(plaintext);
    this.#nonce += 1n;
    return ciphertext;
  }

  /**
   * Decrypts and counts; a message that does not verify leaves the counter as it was. Without a key
   * returns the ciphertext. Noise: DecryptWithAd(ad, ciphertext).
   *
   * @throws MemcloudError `ERR_PEER_AUTHENTICATION` when the message does not verify,
   *   `ERR_INTERNAL` when the counter reached the reserved nonce
   */
  decryptWithAd(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    if (this.#key === undefined) return ciphertext;
    const cipher = chacha20poly1305(this.#key, this.#nextNonce(), ad);
    let plaintext;
    try {
      plaintext = cipher.decrypt(ciphertext);
    } catch (cause) {
      throw new MemcloudError('ERR_PEER_AUTHENTICATION', 'a Noise message did not verify', {
        cause,
      });
    }
    this.#nonce += 1n;
    return plaintext;
  }

  /** Replaces the key by the one-way function of it; the counter goes on. Noise: Rekey(), 4.2 REKEY(k). */
  rekey(): void {
    const key = this.#key;
    if (key === undefined) throw new MemcloudError('ERR_INTERNAL', 'Noise: rekey without a key');
    const zeroes = new Uint8Array(KEY_SIZE_BYTES);
    const sealed = chacha20poly1305(key, nonceBytes(NONCE_RESERVED), EMPTY).encrypt(zeroes);
    key.set(sealed.subarray(0, KEY_SIZE_BYTES));
    sealed.fill(0);
  }

  /** Hands the key over to the caller, who zeroes it; this state has none afterwards. */
  takeKey(): Uint8Array {
    const key = this.#key;
    if (key === undefined) throw new MemcloudError('ERR_INTERNAL', 'Noise: no key to take');
    this.#key = undefined;
    return key;
  }

  /** Zeroes the key. */
  destroy(): void {
    this.#key?.fill(0);
    this.#key = undefined;
  }

  #nextNonce(): Uint8Array {
    if (this.#nonce >= NONCE_RESERVED) {
      throw new MemcloudError('ERR_INTERNAL', 'Noise: the nonces of a key are used up');
    }
    return nonceBytes(this.#nonce);
  }
}
