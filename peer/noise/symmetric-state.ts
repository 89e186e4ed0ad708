/**
 * The SymmetricState object of the Noise specification (section 5.2): the chaining key `ck`, into
 * which every Diffie-Hellman result is mixed, and the handshake hash `h`, into which every byte sent
 * or received is mixed. Keys come from `ck`, agreement on the transcript from `h`.
 */
import { hmac } from '@noble/hashes/hmac.js';
import type { CHash } from '@noble/hashes/utils.js';
import { CipherState, KEY_SIZE_BYTES } from './cipher-state.ts';

/** The hash functions of a suite (Noise 4.3) under the name that the protocol name carries. */
export interface NoiseHash {
  /** `SHA256`, `BLAKE2s`, ... */
  readonly name: string;
  /** The function; it also says HASHLEN and BLOCKLEN. */
  readonly hash: CHash;
}

const EMPTY = new Uint8Array(0);

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** HKDF with two outputs of HASHLEN bytes. Noise 4.3. The caller zeroes the outputs. */
export function hkdf2(
  hash: CHash,
  chainingKey: Uint8Array,
  input: Uint8Array,
): [Uint8Array, Uint8Array] {
  const tempKey = hmac(hash, chainingKey, input);
  const output1 = hmac(hash, tempKey, Uint8Array.of(1));
  const output2 = hmac(hash, tempKey, concat(output1, Uint8Array.of(2)));
  tempKey.fill(0);
  return [output1, output2];
}

/** Chaining key, handshake hash and cipher of one side of a handshake. */
export class SymmetricState {
  readonly #hash: CHash;
  readonly #cipher = new CipherState();
  #ck: Uint8Array;
  #h: Uint8Array;

  /** Noise: InitializeSymmetric(protocol_name). */
  constructor(protocolName: string, suite: NoiseHash) {
    this.#hash = suite.hash;
    const name = new TextEncoder().encode(protocolName);
    if (name.length <= this.#hash.outputLen) {
      this.#h = new Uint8Array(this.#hash.outputLen);
      this.#h.set(name);
    } else {
      this.#h = this.#hash(name);
    }
    this.#ck = Uint8Array.from(this.#h);
  }

  /** True once a key was mixed in. */
  get hasKey(): boolean {
    return this.#cipher.hasKey;
  }

  /** A copy of `h`. Noise: GetHandshakeHash(), also used in mid-handshake for channel binding. */
  get handshakeHash(): Uint8Array {
    return Uint8Array.from(this.#h);
  }

  /** Noise: MixKey(input_key_material). Zeroes the input. */
  mixKey(inputKeyMaterial: Uint8Array): void {
    const [ck, tempKey] = hkdf2(this.#hash, this.#ck, inputKeyMaterial);
    inputKeyMaterial.fill(0);
    this.#ck.fill(0);
    this.#ck = ck;
    // A hash of 64 bytes gives more than a key needs: Noise truncates.
    this.#cipher.initializeKey(tempKey.subarray(0, KEY_SIZE_BYTES));
    tempKey.fill(0);
  }

  /** Noise: MixHash(data). */
  mixHash(data: Uint8Array): void {
    this.#h = this.#hash(concat(this.#h, data));
  }

  /** Noise: EncryptAndHash(plaintext). */
  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.#cipher.encryptWithAd(this.#h, plaintext);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  /** Noise: DecryptAndHash(ciphertext). @throws MemcloudError `ERR_PEER_AUTHENTICATION` */
  decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const plaintext = this.#cipher.decryptWithAd(this.#h, ciphertext);
    this.mixHash(ciphertext);
    return plaintext;
  }

  /** The cipher states initiator to responder and responder to initiator. Noise: Split(). */
  split(): [CipherState, CipherState] {
    const [key1, key2] = hkdf2(this.#hash, this.#ck, EMPTY);
    const states: [CipherState, CipherState] = [new CipherState(), new CipherState()];
    states[0].initializeKey(key1.subarray(0, KEY_SIZE_BYTES));
    states[1].initializeKey(key2.subarray(0, KEY_SIZE_BYTES));
    key1.fill(0);
    key2.fill(0);
    return states;
  }

  /** Zeroes the chaining key and the cipher key. */
  destroy(): void {
    this.#ck.fill(0);
    this.#cipher.destroy();
  }
}
