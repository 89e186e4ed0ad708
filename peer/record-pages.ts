/** The parts of an opened record that messages refer to: its pages in order, a message's body. */
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import type { MessageCursor } from './messages.ts';

/** Throws ERR_PEER_PROTOCOL: the peer broke the session protocol. */
export function breach(message: string): never {
  throw new MemcloudError('ERR_PEER_PROTOCOL', message);
}

/** The body of the message at the cursor, borrowed as long as the input is. */
export function bodyOf(message: MessageCursor, input: NativeBuffer): Buffer {
  return input.bytes.subarray(message.bodyOffset, message.bodyOffset + message.bodyLength);
}

/** Deals the pages of a record out to its messages, in order. */
export class RecordPages {
  #at = 0;
  #end = 0;

  /** Begins a record whose pages lie at `start`. */
  reset(start: number, length: number): void {
    this.#at = start;
    this.#end = start + length;
  }

  /** The offset of the next `count` pages. @throws MemcloudError `ERR_PEER_PROTOCOL` when there are fewer */
  take(count: number): number {
    const offset = this.#at;
    this.#at += count * SEALED_PAGE_SIZE_BYTES;
    if (this.#at > this.#end) breach('record: messages name more pages than it has');
    return offset;
  }

  /** @throws MemcloudError `ERR_PEER_PROTOCOL` when pages are left that no message named */
  finish(): void {
    if (this.#at !== this.#end) breach('record: it has pages that belong to no message');
  }
}
