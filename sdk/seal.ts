/**
 * Sealed values: encrypted and authenticated by the client, so that the node that holds an object can
 * neither read it nor make another one in its place.
 *
 * The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizar, "Online Authenticated-Encryption and
 * its Nonce-Reuse Misuse-Resistance", CRYPTO 2015), as age uses it: the value is cut into chunks, each
 * sealed by ChaCha20-Poly1305 (RFC 8439) under a key of this value alone, with a nonce that counts the
 * chunks and marks the last one. So a chunk that is altered, left out, doubled or moved does not open,
 * and neither does a value that ends too early or goes on too long. Memory stays at one chunk.
 *
 * ```
 * value:  header (36), then chunks of 49 152 bytes, the last one of 16 to 49 152
 * header: "MCS" 0x01, salt (32 random bytes)
 * key:    HKDF-SHA256 (RFC 5869) of the seal key, the salt, and "memcloud object seal v1"
 * nonce:  index of the chunk (11 bytes, big-endian), then 1 for the last chunk and 0 for any other
 * covers: header, length of the note (2 bytes, big-endian), note, name (UTF-8)
 * ```
 *
 * A sealed chunk is as long as a piece of an object may be, so that a range is read by whole pieces. The
 * name is covered, so that a holder cannot answer for one key with the value of another; so is the
 * encoding note (sdk/encoding.ts). A block has no name before it is written: sealed blocks are covered
 * under the empty name, and a holder can swap them with one another.
 *
 * What sealing does not do: it does not hide how long values are, what keys are called, and when they are
 * written and read; and a holder may answer with an older sealed value of the same name, or with none.
 * A client that knows the version it wrote asks for that version.
 */
import crypto, { type KeyObject } from 'node:crypto';
import { MemcloudError } from '../common/errors.ts';
import { chunksOf, type ByteSource, type ByteTransform } from './chunks.ts';

/** The user's key. It does not print itself. */
export type SealKey = KeyObject;

/** What a sealed value is bound to. */
export interface SealContext {
  /** The key of the object; empty for a block. */
  readonly name: string;
  /** The encoding note in its meta, if it has one. */
  readonly note?: Uint8Array;
}

/** Reads a range of an object as it lies on its holder; fewer bytes only at its end. */
export type ReadSealed = (offsetBytes: number, lengthBytes: number) => Promise<Uint8Array>;

/** Bytes of a seal key. */
export const SEAL_KEY_SIZE_BYTES = 32;
/** Bytes in front of the first chunk. */
export const SEAL_HEADER_SIZE_BYTES = 36;
/** Bytes of a sealed chunk, but for the last one: `OBJECT_PIECE_SIZE_MAX_BYTES`. */
export const SEAL_CHUNK_SIZE_BYTES = 48 * 1024;

const MAGIC = Buffer.from('MCS\x01', 'latin1');
const SALT_SIZE_BYTES = 32;
const TAG_SIZE_BYTES = 16;
const NONCE_SIZE_BYTES = 12;
const INFO = 'memcloud object seal v1';
const CIPHER = 'chacha20-poly1305';
const PLAIN_CHUNK_SIZE_BYTES = SEAL_CHUNK_SIZE_BYTES - TAG_SIZE_BYTES;
const NOTHING = new Uint8Array();

/** A seal key of its 32 bytes, which are copied. @throws MemcloudError `ERR_USAGE` */
export function sealKeyOf(bytes: Uint8Array): SealKey {
  if (bytes.length !== SEAL_KEY_SIZE_BYTES) {
    const message = `seal key: expected ${SEAL_KEY_SIZE_BYTES} bytes, got ${bytes.length}`;
    throw new MemcloudError('ERR_USAGE', message);
  }
  return crypto.createSecretKey(bytes);
}

/** Bytes of a value when it is sealed. */
export function sealedSizeOf(plainSizeBytes: number): number {
  const chunkCount = Math.max(1, Math.ceil(plainSizeBytes / PLAIN_CHUNK_SIZE_BYTES));
  return SEAL_HEADER_SIZE_BYTES + plainSizeBytes + chunkCount * TAG_SIZE_BYTES;
}

/** Bytes of a sealed value when it is opened. @throws MemcloudError `ERR_OBJECT_SEAL` when none has that size */
export function openedSizeOf(sealedSizeBytes: number): number {
  const bodySize = sealedSizeBytes - SEAL_HEADER_SIZE_BYTES;
  const chunkCount = Math.ceil(bodySize / SEAL_CHUNK_SIZE_BYTES);
  const plainSizeBytes = bodySize - chunkCount * TAG_SIZE_BYTES;
  if (bodySize < TAG_SIZE_BYTES || sealedSizeOf(plainSizeBytes) !== sealedSizeBytes) {
    throw refused(`a value of ${sealedSizeBytes} bytes is none, or is cut short`);
  }
  return plainSizeBytes;
}

/** One value being sealed or opened: its own key, and what each chunk covers. */
class ValueCipher {
  readonly header: Buffer;
  readonly #key: Buffer;
  readonly #covered: Buffer;
  readonly #nonce = Buffer.alloc(NONCE_SIZE_BYTES);

  constructor(key: SealKey, context: SealContext, header: Buffer) {
    const note = context.note ?? NOTHING;
    const noteLength = Buffer.alloc(2);
    noteLength.writeUInt16BE(note.length);
    this.header = header;
    this.#covered = Buffer.concat([header, noteLength, note, Buffer.from(context.name)]);
    const salt = header.subarray(MAGIC.length);
    this.#key = Buffer.from(crypto.hkdfSync('sha256', key, salt, INFO, SEAL_KEY_SIZE_BYTES));
  }

  /** A value that begins. @param salt - 32 random bytes that no other value has */
  static forSealing(key: SealKey, context: SealContext, salt: Uint8Array): ValueCipher {
    return new ValueCipher(key, context, Buffer.concat([MAGIC, salt]));
  }

  /** A value that came with `header`. @throws MemcloudError `ERR_OBJECT_SEAL` */
  static forOpening(key: SealKey, context: SealContext, header: Uint8Array): ValueCipher {
    const copy = Buffer.from(header);
    if (copy.length !== SEAL_HEADER_SIZE_BYTES || !copy.subarray(0, MAGIC.length).equals(MAGIC)) {
      throw refused('it does not begin as one');
    }
    return new ValueCipher(key, context, copy);
  }

  seal(index: number, plain: Uint8Array, isLast: boolean): Buffer {
    const options = { authTagLength: TAG_SIZE_BYTES };
    const cipher = crypto.createCipheriv(CIPHER, this.#key, this.#nonceOf(index, isLast), options);
    cipher.setAAD(this.#covered, { plaintextLength: plain.length });
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** @throws MemcloudError `ERR_OBJECT_SEAL` */
  open(index: number, sealed: Uint8Array, isLast: boolean): Buffer {
    const plainSize = sealed.length - TAG_SIZE_BYTES;
    // Only an empty value has an empty chunk; of any other length there is one way to cut it.
    if (plainSize < 0 || (plainSize === 0 && index > 0)) throw refused('it is cut short');
    const options = { authTagLength: TAG_SIZE_BYTES };
    const cipher = crypto.createDecipheriv(
      CIPHER,
      this.#key,
      this.#nonceOf(index, isLast),
      options,
    );
    cipher.setAAD(this.#covered, { plaintextLength: plainSize });
    cipher.setAuthTag(sealed.subarray(plainSize));
    const plain = cipher.update(sealed.subarray(0, plainSize));
    try {
      cipher.final();
    } catch (cause) {
      plain.fill(0);
      const why = `chunk ${index} is of another key, of another name, or altered, moved or cut`;
      throw refused(why, cause);
    }
    return plain;
  }

  /** Forgets the key. */
  close(): void {
    this.#key.fill(0);
  }

  #nonceOf(index: number, isLast: boolean): Buffer {
    this.#nonce.writeBigUInt64BE(BigInt(index), NONCE_SIZE_BYTES - 1 - 8);
    this.#nonce[NONCE_SIZE_BYTES - 1] = isLast ? 1 : 0;
    return this.#nonce;
  }
}

/**
 * Seals a stream: header first, then a chunk at a time.
 *
 * @param salt - 32 random bytes that no other value has; only vectors choose them
 */
export function sealStream(
  key: SealKey,
  context: SealContext,
  salt: Uint8Array = crypto.randomBytes(SALT_SIZE_BYTES),
): ByteTransform {
  return async function* (source: ByteSource) {
    const cipher = ValueCipher.forSealing(key, context, salt);
    try {
      yield cipher.header;
      let index = 0;
      for await (const { bytes, isLast } of chunksOf(source, PLAIN_CHUNK_SIZE_BYTES)) {
        yield cipher.seal(index, bytes, isLast);
        index += 1;
      }
    } finally {
      cipher.close();
    }
  };
}

/**
 * Opens a stream, whatever pieces it comes in. What it yields is a true beginning of the value; that it is
 * all of the value is certain only when it ends without an error.
 *
 * The generator throws MemcloudError `ERR_OBJECT_SEAL`.
 */
export function openStream(key: SealKey, context: SealContext): ByteTransform {
  return async function* (source: ByteSource) {
    const pieces = piecesOf(source);
    let cipher: ValueCipher | undefined;
    try {
      const begin = await takeHeader(pieces);
      cipher = ValueCipher.forOpening(key, context, begin.subarray(0, SEAL_HEADER_SIZE_BYTES));
      const body = joined(begin.subarray(SEAL_HEADER_SIZE_BYTES), pieces);
      let index = 0;
      for await (const { bytes, isLast } of chunksOf(body, SEAL_CHUNK_SIZE_BYTES)) {
        const plain = cipher.open(index, bytes, isLast);
        if (plain.length > 0) yield plain;
        index += 1;
      }
    } finally {
      cipher?.close();
      await pieces.return();
    }
  };
}

/** Seals a whole value. */
export function sealValue(
  key: SealKey,
  context: SealContext,
  value: Uint8Array,
  salt: Uint8Array = crypto.randomBytes(SALT_SIZE_BYTES),
): Buffer {
  const cipher = ValueCipher.forSealing(key, context, salt);
  const parts: Buffer[] = [cipher.header];
  for (let index = 0, at = 0; index === 0 || at < value.length; index += 1) {
    const end = at + PLAIN_CHUNK_SIZE_BYTES;
    parts.push(cipher.seal(index, value.subarray(at, end), end >= value.length));
    at = end;
  }
  cipher.close();
  return Buffer.concat(parts);
}

/** Opens a whole value. @throws MemcloudError `ERR_OBJECT_SEAL` */
export function openValue(key: SealKey, context: SealContext, sealed: Uint8Array): Buffer {
  const plain = Buffer.allocUnsafe(openedSizeOf(sealed.length));
  const cipher = ValueCipher.forOpening(key, context, sealed.subarray(0, SEAL_HEADER_SIZE_BYTES));
  try {
    let filled = 0;
    for (let index = 0, at = SEAL_HEADER_SIZE_BYTES; at < sealed.length; index += 1) {
      const end = at + SEAL_CHUNK_SIZE_BYTES;
      filled += cipher
        .open(index, sealed.subarray(at, end), end >= sealed.length)
        .copy(plain, filled);
      at = end;
    }
  } finally {
    cipher.close();
  }
  return plain;
}

/**
 * Opens `lengthBytes` from `offsetBytes` of the value on, fewer at its end, and reads no other chunks than
 * those. When the range reaches the end that the holder claims, the last chunk is opened as well, so that
 * the holder cannot hide bytes by claiming a shorter value.
 *
 * @param sealedSizeBytes - bytes of the object as it lies on its holder; `read` must go on reading that
 *   same version
 *
 * The generator throws MemcloudError `ERR_OBJECT_SEAL`, and whatever `read` throws.
 */
export async function* openRange(
  key: SealKey,
  context: SealContext,
  sealedSizeBytes: number,
  range: { readonly offsetBytes: number; readonly lengthBytes: number },
  read: ReadSealed,
): AsyncGenerator<Buffer, void, undefined> {
  const plainSizeBytes = openedSizeOf(sealedSizeBytes);
  const from = Math.min(range.offsetBytes, plainSizeBytes);
  const to = Math.min(range.offsetBytes + range.lengthBytes, plainSizeBytes);
  const reachesEnd = range.offsetBytes + range.lengthBytes >= plainSizeBytes;
  if (range.lengthBytes === 0) return;
  const lastIndex = Math.max(0, Math.ceil(plainSizeBytes / PLAIN_CHUNK_SIZE_BYTES) - 1);
  const firstIndex = Math.min(Math.floor(from / PLAIN_CHUNK_SIZE_BYTES), lastIndex);
  const endIndex = reachesEnd ? lastIndex : Math.floor((to - 1) / PLAIN_CHUNK_SIZE_BYTES);
  const cipher = ValueCipher.forOpening(key, context, await read(0, SEAL_HEADER_SIZE_BYTES));
  try {
    for (let index = firstIndex; index <= endIndex; index += 1) {
      const at = SEAL_HEADER_SIZE_BYTES + index * SEAL_CHUNK_SIZE_BYTES;
      const sealed = await read(at, Math.min(SEAL_CHUNK_SIZE_BYTES, sealedSizeBytes - at));
      const plain = cipher.open(index, sealed, index === lastIndex);
      const start = index * PLAIN_CHUNK_SIZE_BYTES;
      const wanted = plain.subarray(Math.max(0, from - start), Math.max(0, to - start));
      if (wanted.length > 0) yield wanted;
    }
  } finally {
    cipher.close();
  }
}

/** The header of a sealed stream, and what came with it; the rest of the pieces is still to come. */
async function takeHeader(pieces: AsyncGenerator<Uint8Array, void, undefined>): Promise<Buffer> {
  let header = Buffer.alloc(0);
  while (header.length < SEAL_HEADER_SIZE_BYTES) {
    const next = await pieces.next();
    if (next.done === true) throw refused('it is cut short');
    header = Buffer.concat([header, next.value]);
  }
  return header;
}

async function* joined(
  first: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield first;
  yield* rest;
}

async function* piecesOf(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
  yield* source;
}

function refused(why: string, cause?: unknown): MemcloudError {
  const options = cause === undefined ? {} : { cause };
  return new MemcloudError('ERR_OBJECT_SEAL', `the sealed value does not open: ${why}`, options);
}
