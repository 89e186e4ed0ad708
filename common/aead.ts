/**
 * ChaCha20-Poly1305 (RFC 8439) over native memory, the one cipher of the data path: it seals pages
 * (tier/seal.ts) and session records (peer/). Input, output and associated data are addresses, so
 * that a seal makes no object and copies nothing.
 *
 * The engine is the libcrypto that is linked into the node binary, called through koffi with one
 * reused context for each key and direction. `node:crypto` runs the same code, but its set-up of an
 * object for each message costs more than the cipher does on 4 KiB: measured 5.7 us against 1.7 us
 * (docs/adr/0002-libcrypto-through-koffi.md). Tests hold it equal to @noble/ciphers.
 */
import koffi from 'koffi';
import { MemcloudError } from './errors.ts';
import { NativeMemory, type NativeBuffer } from './native-memory.ts';
import { TAG_SIZE_BYTES } from './units.ts';

/** Bytes of a ChaCha20-Poly1305 key. RFC 8439 2.8. */
export const AEAD_KEY_SIZE_BYTES = 32;

/** OpenSSL `include/openssl/evp.h`. */
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;

const crypto = koffi.load(null);
const evpCipher = crypto.func('uintptr_t EVP_chacha20_poly1305()');
const evpNew = crypto.func('uintptr_t EVP_CIPHER_CTX_new()');
const evpFree = crypto.func('void EVP_CIPHER_CTX_free(uintptr_t ctx)');
const evpInit = crypto.func(
  'int EVP_CipherInit_ex(uintptr_t ctx, uintptr_t cipher, uintptr_t engine, uintptr_t key, uintptr_t iv, int enc)',
);
const evpUpdate = crypto.func(
  'int EVP_CipherUpdate(uintptr_t ctx, uintptr_t out, uintptr_t outl, uintptr_t in, int inl)',
);
const evpFinal = crypto.func(
  'int EVP_CipherFinal_ex(uintptr_t ctx, uintptr_t out, uintptr_t outl)',
);
const evpCtrl = crypto.func(
  'int EVP_CIPHER_CTX_ctrl(uintptr_t ctx, int type, int arg, uintptr_t ptr)',
);

/**
 * What a field for an address starts with. V8 keeps a number above 2^31 inside a field that never
 * held anything else, and makes a new object of it each time it is handed to a foreign function; a
 * field that held something else before keeps the object. That is 70 bytes of garbage
 * less for each page (docs/benchmarks.md, "Steady state").
 */
const UNSET_ADDRESS = undefined as unknown as number;

/** Where the parts of one message lie. Ranges may not overlap, except that output may equal input. */
export interface AeadMessage {
  /** Address of the associated data. */
  aad: number;
  /** Bytes of associated data, 0 for none. */
  aadLength: number;
  /** Address of a second run of associated data, which follows the first. */
  aad2: number;
  /** Bytes of the second run, 0 for none. */
  aad2Length: number;
  /** Address of the plaintext (seal) or ciphertext (open). */
  input: number;
  /** Bytes of input and of output, 0 for none. */
  length: number;
  /** Address that receives the output. */
  output: number;
  /** Address of the 16-byte tag: written by seal, compared by open. */
  tag: number;
}

/** An empty {@link AeadMessage} for a caller to keep and fill again for each message. */
export function emptyAeadMessage(): AeadMessage {
  const at = UNSET_ADDRESS;
  const lengths = { aadLength: 0, aad2Length: 0, length: 0 };
  const message = { ...lengths, aad: at, aad2: at, input: at, output: at, tag: at };
  return Object.assign(message, { aad: 0, aad2: 0, input: 0, output: 0, tag: 0 });
}

/**
 * One key. Not safe to share between threads. The caller owns nonces: a (key, nonce) pair used to
 * seal twice breaks the cipher, so both users count them (page versions, record numbers).
 */
export class AeadKey {
  #sealContext = UNSET_ADDRESS;
  #openContext = UNSET_ADDRESS;
  /** Of the nonce, and of the length that libcrypto reports. */
  #nonceAddress = UNSET_ADDRESS;
  #lengthAddress = UNSET_ADDRESS;
  readonly #scratch: NativeMemory;
  readonly #nonceWords: Uint32Array;
  #freed = false;

  /** @param key - 32 bytes, copied; the caller should zero its own copy */
  constructor(key: Uint8Array) {
    if (key.length !== AEAD_KEY_SIZE_BYTES) {
      throw new MemcloudError('ERR_INTERNAL', `AEAD key: expected 32 bytes, got ${key.length}`);
    }
    this.#scratch = new NativeMemory(128, { lock: true, secret: true });
    this.#nonceWords = new Uint32Array(
      this.#scratch.bytes.buffer,
      this.#scratch.bytes.byteOffset,
      3,
    );
    this.#scratch.bytes.set(key, 64);
    this.#nonceAddress = this.#scratch.address;
    this.#lengthAddress = this.#scratch.address + 16;
    this.#sealContext = evpNew() as number;
    this.#openContext = evpNew() as number;
    const keyAddress = this.#scratch.address + 64;
    const cipher = evpCipher() as number;
    if (
      evpInit(this.#sealContext, cipher, 0, keyAddress, this.#nonceAddress, 1) !== 1 ||
      evpInit(this.#openContext, cipher, 0, keyAddress, this.#nonceAddress, 0) !== 1
    ) {
      throw new MemcloudError('ERR_NATIVE', 'libcrypto refused to set a ChaCha20-Poly1305 key');
    }
    this.#scratch.bytes.fill(0, 64, 96);
  }

  /**
   * Encrypts `message` and writes its tag.
   *
   * @param word0 - nonce bytes 0 to 3, little endian, as unsigned 32 bits
   * @param word1 - nonce bytes 4 to 7
   * @param word2 - nonce bytes 8 to 11
   */
  seal(word0: number, word1: number, word2: number, message: AeadMessage): void {
    const context = this.#sealContext;
    const done =
      this.#run(context, 1, word0, word1, word2, message) &&
      evpFinal(context, message.output, this.#lengthAddress) === 1 &&
      evpCtrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE_BYTES, message.tag) === 1;
    if (!done) throw new MemcloudError('ERR_INTERNAL', 'libcrypto failed to seal');
  }

  /**
   * Decrypts `message` after the same nonce as {@link AeadKey.seal}.
   *
   * @returns false when the tag does not verify; the output is then garbage that may not be used
   */
  open(word0: number, word1: number, word2: number, message: AeadMessage): boolean {
    const context = this.#openContext;
    return (
      this.#run(context, 0, word0, word1, word2, message) &&
      evpCtrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE_BYTES, message.tag) === 1 &&
      evpFinal(context, message.output, this.#lengthAddress) === 1
    );
  }

  /** Drops the key: libcrypto zeroes its contexts, we zero our memory. Further use throws. */
  destroy(): void {
    if (this.#freed) return;
    this.#freed = true;
    evpFree(this.#sealContext);
    evpFree(this.#openContext);
    this.#scratch.free();
  }

  #run(
    context: number,
    encrypt: 0 | 1,
    word0: number,
    word1: number,
    word2: number,
    message: AeadMessage,
  ): boolean {
    if (this.#freed)
      throw new MemcloudError('ERR_INTERNAL', 'AEAD key used after it was destroyed');
    const words = this.#nonceWords;
    words[0] = word0;
    words[1] = word1;
    words[2] = word2;
    const outLength = this.#lengthAddress;
    return (
      evpInit(context, 0, 0, 0, this.#nonceAddress, encrypt) === 1 &&
      (message.aadLength === 0 ||
        evpUpdate(context, 0, outLength, message.aad, message.aadLength) === 1) &&
      (message.aad2Length === 0 ||
        evpUpdate(context, 0, outLength, message.aad2, message.aad2Length) === 1) &&
      (message.length === 0 ||
        evpUpdate(context, message.output, outLength, message.input, message.length) === 1)
    );
  }
}

/** The address `offset` bytes into a native buffer, with the bounds checked: a wrong one is a crash. */
export function addressIn(buffer: NativeBuffer, offset: number, length: number): number {
  // Written so that NaN is outside.
  if (!(offset >= 0 && length >= 0 && offset + length <= buffer.bytes.length)) {
    throw new RangeError(
      `native buffer: ${offset}+${length} is outside ${buffer.bytes.length} bytes`,
    );
  }
  return buffer.address + offset;
}
