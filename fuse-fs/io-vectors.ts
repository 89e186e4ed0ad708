/**
 * What one writev(2) is to send: a list of `struct iovec`, in memory outside the heap. Runs that lie one behind
 * the other become one.
 */
import { MemcloudError } from '../common/errors.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { TRANSFER_SIZE_MAX_BYTES } from './constants.ts';

/** limits.h `IOV_MAX`: what one call takes at most. */
const IOV_MAX = 1024;
const WORDS_PER_VECTOR = 4;
const TWO_32 = 2 ** 32;

/** See the top of the file. */
export class IoVectors {
  readonly #memory = new NativeMemory(IOV_MAX * WORDS_PER_VECTOR * 4);
  readonly #words: Uint32Array;
  /** Never written to: the kernel reads one page of zeroes for all of it. */
  readonly #zeroes = new NativeMemory(TRANSFER_SIZE_MAX_BYTES);
  #count = 0;
  #length = 0;
  /** Where the last run ends. */
  #end = 0;

  constructor() {
    const { buffer, byteOffset, length } = this.#memory.bytes;
    this.#words = new Uint32Array(buffer, byteOffset, length / 4);
  }

  /** Address of the first. */
  get address(): number {
    return this.#memory.address;
  }

  /** How many there are. */
  get count(): number {
    return this.#count;
  }

  /** Bytes in all. */
  get length(): number {
    return this.#length;
  }

  /** Begins anew. */
  clear(): void {
    this.#count = 0;
    this.#length = 0;
    this.#end = 0;
  }

  /** Appends bytes, which stay where they are. */
  add(address: number, length: number): void {
    const joins = address === this.#end;
    if (!joins && this.#count === IOV_MAX) {
      throw new MemcloudError('ERR_INTERNAL', `a reply of more than ${IOV_MAX} pieces`);
    }
    if (!joins) {
      const at = this.#count * WORDS_PER_VECTOR;
      this.#words[at] = address;
      this.#words[at + 1] = Math.floor(address / TWO_32);
      this.#words[at + 2] = 0;
      this.#words[at + 3] = 0;
      this.#count += 1;
    }
    const sizeAt = (this.#count - 1) * WORDS_PER_VECTOR + 2;
    this.#words[sizeAt] = (this.#words[sizeAt] as number) + length;
    this.#length += length;
    this.#end = address + length;
  }

  /** Appends zeroes. @param length - at most 1 MiB */
  addZeroes(length: number): void {
    this.add(this.#zeroes.address, length);
  }

  /** Frees memory. */
  free(): void {
    this.#memory.free();
    this.#zeroes.free();
  }
}
