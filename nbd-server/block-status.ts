/**
 * The answer to BLOCK_STATUS: the runs that a device reports, merged where equal, as descriptors of
 * `base:allocation`. proto.md "NBD_REPLY_TYPE_BLOCK_STATUS": at least one descriptor, none empty,
 * and, because we never describe more than was asked, no sum beyond the request.
 */
import type { BlockDevice } from '../common/ports.ts';
import { NBD_EXTENT_COUNT_MAX } from './constants.ts';
import { encodeUint64 } from './message-codec.ts';

/** Collects the extents of one request at a time. */
export class ExtentList {
  readonly #lengths = new Float64Array(NBD_EXTENT_COUNT_MAX);
  readonly #flags = new Uint8Array(NBD_EXTENT_COUNT_MAX);
  #count = 0;
  #countMax = 0;
  #remaining = 0;
  readonly #emit = (lengthBytes: number, flags: number): boolean => this.#add(lengthBytes, flags);

  /** Descriptors collected. */
  get count(): number {
    return this.#count;
  }

  /**
   * Asks the device about `[offset, offset + length)`, which lies inside it.
   *
   * @param length - bytes, at least 1
   * @param one - true for REQ_ONE: a single descriptor
   */
  collect(device: BlockDevice, offset: number, length: number, one: boolean): void {
    this.#count = 0;
    this.#countMax = one ? 1 : NBD_EXTENT_COUNT_MAX;
    this.#remaining = length;
    device.extents(offset, length, this.#emit);
    // A device that says nothing means nothing special: status 0 is always true enough.
    if (this.#count === 0) this.#add(length, 0);
  }

  /** Writes the descriptors as 32-bit lengths and flags, 8 bytes each. The request was below 2^32. */
  encode32(view: DataView, at: number): void {
    for (let index = 0; index < this.#count; index += 1) {
      view.setUint32(at + index * 8, this.#lengths[index] ?? 0);
      view.setUint32(at + index * 8 + 4, this.#flags[index] ?? 0);
    }
  }

  /** Writes the descriptors as 64-bit lengths and flags, 16 bytes each. */
  encode64(view: DataView, at: number): void {
    for (let index = 0; index < this.#count; index += 1) {
      encodeUint64(view, at + index * 16, this.#lengths[index] ?? 0);
      encodeUint64(view, at + index * 16 + 8, this.#flags[index] ?? 0);
    }
  }

  #add(lengthBytes: number, flags: number): boolean {
    const length = Math.min(lengthBytes, this.#remaining);
    if (length > 0) {
      const last = this.#count - 1;
      if (last >= 0 && this.#flags[last] === flags) {
        this.#lengths[last] = (this.#lengths[last] ?? 0) + length;
      } else {
        if (this.#count === this.#countMax) return false;
        this.#lengths[this.#count] = length;
        this.#flags[this.#count] = flags;
        this.#count += 1;
      }
      this.#remaining -= length;
    }
    return this.#remaining > 0;
  }
}
