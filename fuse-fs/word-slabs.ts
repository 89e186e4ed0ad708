/**
 * Small runs of 32-bit words in a few sizes, from segments of 64 KiB that each hold one size: what the page
 * table keeps the pages of files in, so that a million files make no million objects. Segments that
 * become empty serve any size again. A free run names the next free run of its segment in its first word.
 */

/** The sizes, words. */
export const SLAB_WORDS = [4, 16, 64, 1024] as const;

/** The number of a size: its place in {@link SLAB_WORDS}. */
export type SlabClass = 0 | 1 | 2 | 3;

/** Words in a segment; a multiple of each size. */
const SEGMENT_WORDS = 16_384;

/** Handles count units of the smallest size. */
const UNIT_WORDS = 4;

const SEGMENT_UNITS = SEGMENT_WORDS / UNIT_WORDS;

/** Empty segments that keep their memory, so that files that come and go make none. */
const EMPTY_SEGMENT_COUNT_MAX = 8;

interface Segment {
  /** Undefined while the segment is out of use. */
  words: Uint32Array | undefined;
  slabClass: SlabClass;
  usedCount: number;
  /** First word of the first run that was used and is free, or -1. */
  freeHead: number;
  /** Words from here on were never used in this life of the segment. */
  freshWord: number;
  /** Neighbours on the list of segments of the size with a free run; -1 for none. */
  next: number;
  previous: number;
}

/** The runs. A handle is trusted to be one that was taken and not given back. */
export class WordSlabs {
  readonly #segments: Segment[] = [];
  /** First segment of each size with a free run, or -1. */
  readonly #open: number[] = SLAB_WORDS.map(() => -1);
  /** Segments without runs; the first few still have their memory. */
  readonly #empty: number[] = [];
  #liveSegmentCount = 0;

  /** Bytes of memory. */
  get sizeBytes(): number {
    return this.#liveSegmentCount * SEGMENT_WORDS * 4;
  }

  /** Takes a run of zeroes. @returns its handle, less than 2^32 - 1 */
  take(slabClass: SlabClass): number {
    const size = SLAB_WORDS[slabClass];
    let index = this.#open[slabClass] as number;
    if (index === -1) index = this.#openSegment(slabClass);
    const segment = this.#segments[index] as Segment;
    const words = segment.words as Uint32Array;
    let at = segment.freeHead;
    if (at === -1) {
      at = segment.freshWord;
      segment.freshWord += size;
    } else {
      segment.freeHead = (words[at] as number) - 1;
    }
    words.fill(0, at, at + size);
    segment.usedCount += 1;
    if (segment.freeHead === -1 && segment.freshWord === SEGMENT_WORDS) this.#unlink(index);
    return index * SEGMENT_UNITS + at / UNIT_WORDS;
  }

  /** Gives a run back. */
  give(handle: number): void {
    const index = Math.floor(handle / SEGMENT_UNITS);
    const segment = this.#segments[index] as Segment;
    const wasFull = segment.freeHead === -1 && segment.freshWord === SEGMENT_WORDS;
    const at = (handle % SEGMENT_UNITS) * UNIT_WORDS;
    (segment.words as Uint32Array)[at] = segment.freeHead + 1;
    segment.freeHead = at;
    segment.usedCount -= 1;
    if (wasFull) this.#link(index);
    if (segment.usedCount === 0) this.#closeSegment(index);
  }

  /** The array that holds a run, until the run is given back. */
  words(handle: number): Uint32Array {
    return (this.#segments[Math.floor(handle / SEGMENT_UNITS)] as Segment).words as Uint32Array;
  }

  /** Where the run starts in {@link WordSlabs.words}. */
  offset(handle: number): number {
    return (handle % SEGMENT_UNITS) * UNIT_WORDS;
  }

  #openSegment(slabClass: SlabClass): number {
    const index = this.#empty.pop() ?? this.#segments.length;
    const words = this.#segments[index]?.words ?? new Uint32Array(SEGMENT_WORDS);
    if (this.#segments[index]?.words === undefined) this.#liveSegmentCount += 1;
    this.#segments[index] = {
      words,
      slabClass,
      usedCount: 0,
      freeHead: -1,
      freshWord: 0,
      next: -1,
      previous: -1,
    };
    this.#link(index);
    return index;
  }

  #closeSegment(index: number): void {
    this.#unlink(index);
    if (this.#empty.length >= EMPTY_SEGMENT_COUNT_MAX) {
      // At the bottom of the stack, so that those with memory are used first.
      (this.#segments[index] as Segment).words = undefined;
      this.#liveSegmentCount -= 1;
      this.#empty.unshift(index);
    } else {
      this.#empty.push(index);
    }
  }

  #link(index: number): void {
    const segment = this.#segments[index] as Segment;
    const head = this.#open[segment.slabClass] as number;
    segment.next = head;
    segment.previous = -1;
    if (head !== -1) (this.#segments[head] as Segment).previous = index;
    this.#open[segment.slabClass] = index;
  }

  #unlink(index: number): void {
    const segment = this.#segments[index] as Segment;
    if (segment.previous === -1) this.#open[segment.slabClass] = segment.next;
    else (this.#segments[segment.previous] as Segment).next = segment.next;
    if (segment.next !== -1) (this.#segments[segment.next] as Segment).previous = segment.previous;
  }
}
