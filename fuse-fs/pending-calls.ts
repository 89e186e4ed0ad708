/**
 * Calls of the store whose end has a meaning for an inode: a write that made the file longer and may fail.
 * The size grows when the write begins, so that a second write knows where the first one ends; if it
 * fails and nothing changed the size since, the size goes back.
 *
 * The store is given tags of our own: twice the caller's tag for a call that passes straight through,
 * an odd number for one that is kept here. No object is made for a call.
 */
import { InodeWord, type Inodes } from './inodes.ts';
import type { FileCompletionSink } from './operations.ts';
import { RecordTable } from './record-table.ts';

/** What to do at the end of a call. */
export const PendingKind = {
  /** Take a size back when it failed. */
  GROW: 0,
  /** Make the zeroed range hold room, then let the file grow. */
  ZERO: 1,
} as const;

const CallNumber = { TAG: 0, OLD_SIZE: 1, NEW_SIZE: 2, OFFSET: 3, LENGTH: 4 } as const;
const CallWord = { SLOT: 10, GENERATION: 11, KIND: 12, LINK: 13 } as const;
const RECORD_WORDS = 14;

/** Calls under way. */
export class PendingCalls implements FileCompletionSink {
  readonly #calls = new RecordTable(RECORD_WORDS, CallWord.LINK);
  readonly #inodes: Inodes;
  readonly #sink: FileCompletionSink;
  readonly #onZeroed: (slot: number, offset: number, length: number, newSize: number) => number;

  /**
   * @param sink - takes the ends with the callers' tags
   * @param onZeroed - goes on with a call of kind ZERO; returns its end
   */
  constructor(
    inodes: Inodes,
    sink: FileCompletionSink,
    onZeroed: (slot: number, offset: number, length: number, newSize: number) => number,
  ) {
    this.#inodes = inodes;
    this.#sink = sink;
    this.#onZeroed = onZeroed;
  }

  /** The store's tag of a call that has no meaning for an inode. */
  through(tag: number): number {
    return tag * 2;
  }

  /** Keeps a call. @returns the store's tag for it */
  keep(
    tag: number,
    slot: number,
    kind: number,
    oldSize: number,
    newSize: number,
    offset: number,
    length: number,
  ): number {
    const call = this.#calls.allocate();
    this.#calls.setNumber(call, CallNumber.TAG, tag);
    this.#calls.setNumber(call, CallNumber.OLD_SIZE, oldSize);
    this.#calls.setNumber(call, CallNumber.NEW_SIZE, newSize);
    this.#calls.setNumber(call, CallNumber.OFFSET, offset);
    this.#calls.setNumber(call, CallNumber.LENGTH, length);
    this.#calls.setWord(call, CallWord.SLOT, slot);
    this.#calls.setWord(call, CallWord.GENERATION, this.#inodes.word(slot, InodeWord.GENERATION));
    this.#calls.setWord(call, CallWord.KIND, kind);
    return call * 2 + 1;
  }

  onFileDone(tag: number, result: number): void {
    if (tag % 2 === 0) {
      this.#sink.onFileDone(tag / 2, result);
      return;
    }
    const call = (tag - 1) / 2;
    const slot = this.#calls.word(call, CallWord.SLOT);
    const generation = this.#calls.word(call, CallWord.GENERATION);
    const alive =
      this.#inodes.isLive(slot) && this.#inodes.word(slot, InodeWord.GENERATION) === generation;
    const end = alive ? this.#finish(call, slot, result) : result;
    const outer = this.#calls.number(call, CallNumber.TAG);
    this.#calls.free(call);
    this.#sink.onFileDone(outer, end);
  }

  #finish(call: number, slot: number, result: number): number {
    const newSize = this.#calls.number(call, CallNumber.NEW_SIZE);
    if (this.#calls.word(call, CallWord.KIND) === PendingKind.ZERO) {
      if (result < 0) return result;
      const offset = this.#calls.number(call, CallNumber.OFFSET);
      const length = this.#calls.number(call, CallNumber.LENGTH);
      return this.#onZeroed(slot, offset, length, newSize);
    }
    if (result < 0 && this.#inodes.size(slot) === newSize) {
      this.#inodes.setSize(slot, this.#calls.number(call, CallNumber.OLD_SIZE));
    }
    return result;
  }
}
