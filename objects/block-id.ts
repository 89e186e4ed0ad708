/**
 * Block ids: 24 bits of the holder's node id and 40 of the holder's choice, in decimal (common/objects.ts).
 * Inside the store a block is named by its own 40 bits, which a number holds exactly. Pure.
 */
import { BLOCK_ID_HOLDER_BITS } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';

const OWN_BITS = 64 - BLOCK_ID_HOLDER_BITS;
const OWN_COUNT = 2 ** OWN_BITS;
const HEX_DIGIT_BITS = 4;
const DECIMAL = /^(?:0|[1-9][0-9]{0,19})$/;
/** An id of 20 digits is cut in two: numbers hold the halves exactly, and need no BigInt. */
const LOW_DIGIT_COUNT = 10;
const LOW_COUNT = 10 ** LOW_DIGIT_COUNT;
/** 2^64 - 1 in those halves. */
const HIGH_MAX = 1_844_674_407;
const LOW_MAX_AT_HIGH_MAX = 3_709_551_615;
/** 10^10 is this odd number times 2^10. */
const LOW_COUNT_ODD = 9_765_625;
const LOW_COUNT_EVEN = 2 ** 10;
const ODD_MASK = OWN_COUNT / LOW_COUNT_EVEN - 1;

/** The first bits of a node id, as they stand in the ids of its blocks. */
export function holderBits(holder: NodeId): number {
  return Number.parseInt(holder.slice(0, BLOCK_ID_HOLDER_BITS / HEX_DIGIT_BITS), 16);
}

/** The id of a block. @param bits - the holder's, from {@link holderBits} */
export function blockId(bits: number, own: number): string {
  const base = bits * OWN_COUNT;
  const baseLow = base % LOW_COUNT;
  const low = baseLow + own;
  const carry = Math.floor(low / LOW_COUNT);
  // The difference may be rounded by its last bit, the quotient is a whole number all the same.
  const high = Math.round((base - baseLow) / LOW_COUNT) + carry;
  const lowText = String(low - carry * LOW_COUNT);
  return high === 0 ? lowText : String(high) + lowText.padStart(LOW_DIGIT_COUNT, '0');
}

/** A block id taken apart; undefined when the text is no decimal number of 64 bits. */
export function readBlockId(id: string): { holderBits: number; own: number } | undefined {
  if (!DECIMAL.test(id)) return undefined;
  const cut = Math.max(0, id.length - LOW_DIGIT_COUNT);
  const high = Number(id.slice(0, cut));
  const low = Number(id.slice(cut));
  if (high > HIGH_MAX || (high === HIGH_MAX && low > LOW_MAX_AT_HIGH_MAX)) return undefined;
  // high * 10^10 modulo 2^40: the odd factor modulo 2^30, then the even one.
  const product = (Math.imul(high, LOW_COUNT_ODD) & ODD_MASK) * LOW_COUNT_EVEN;
  const own = (product + low) % OWN_COUNT;
  return { holderBits: Math.round((high * LOW_COUNT + low - own) / OWN_COUNT), own };
}

/** Forty random bits. @param random - 0 or more, below 1 */
export function randomOwnBits(random: () => number): number {
  const half = 2 ** (OWN_BITS / 2);
  return Math.floor(random() * half) * half + Math.floor(random() * half);
}
