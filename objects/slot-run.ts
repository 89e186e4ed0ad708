/**
 * A run: 1 MiB of address space in slots of one size, and what is known about its slots and pages. The
 * lowest free slot is found by a bit map and a hint below which nothing is free. Pure.
 */
import type { ObjectArena } from '../common/objects.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';

/** Bytes of a run. */
export const RUN_SIZE_BYTES = 2 ** 20;
/** Pages of a run. */
export const RUN_PAGE_COUNT = RUN_SIZE_BYTES / PAGE_SIZE_BYTES;

/** One run. */
export interface Run {
  readonly arena: ObjectArena;
  /** Where it begins in the arena. */
  readonly offsetBytes: number;
  readonly number: number;
  sizeClass: number;
  slotCount: number;
  freeCount: number;
  /** One bit for each slot: taken. */
  taken: Uint32Array;
  /** No slot is free in the words below. */
  hintWord: number;
  /** Slots that touch each page. */
  readonly uses: Uint8Array;
  /** 1: the page is ours to touch. */
  readonly reserved: Uint8Array;
  /** Reserved pages that no slot touches. */
  idleCount: number;
  /** Where it stands among the runs of its class with a free slot; -1: it has none. */
  place: number;
}

/** The bit map of a run of no class. */
export const NO_BITS = new Uint32Array(0);

/** A run of no class. */
export function emptyRun(arena: ObjectArena, number: number, offsetBytes: number): Run {
  return {
    arena,
    offsetBytes,
    number,
    sizeClass: 0,
    slotCount: 0,
    freeCount: 0,
    taken: NO_BITS,
    hintWord: 0,
    uses: new Uint8Array(RUN_PAGE_COUNT),
    reserved: new Uint8Array(RUN_PAGE_COUNT),
    idleCount: 0,
    place: -1,
  };
}

/** The lowest free slot of a run that has one. */
export function lowestFree(run: Run): number {
  let word = run.hintWord;
  while (run.taken[word] === 0xffff_ffff) word += 1;
  run.hintWord = word;
  const free = ~(run.taken[word] as number);
  return word * 32 + 31 - Math.clz32(free & -free);
}

/** A slot is taken. */
export function setBit(bits: Uint32Array, index: number): void {
  bits[index >>> 5] = (bits[index >>> 5] as number) | (1 << (index & 31));
}

/** A slot is free. */
export function clearBit(bits: Uint32Array, index: number): void {
  bits[index >>> 5] = (bits[index >>> 5] as number) & ~(1 << (index & 31));
}
