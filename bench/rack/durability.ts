/**
 * How likely data is lost, in formulas and by simulation. Donors die at random, each after `mttf` on average
 * (exponential), one at a time; the copies that it had are whole again elsewhere after `repair`. Units of
 * time are the caller's, the same throughout.
 *
 * - A *slab* with k copies is a chain of births and deaths (Gaver; Patterson, Gibson, Katz 1988 for k = 2):
 *   with i copies away one more goes at (k - i) / mttf, and one comes back at i / repair.
 * - A *rack* loses something when k donors that share a slab are away together. With as many slabs as ours
 *   every pair of donors shares one, so that any k donors will do: the rate grows with N^k, and what is lost
 *   each time shrinks with it (Cidon et al., "Copysets", 2013). The expected bytes are the slab's chance
 *   times all slabs, whatever the spread.
 */
import { placeCopy } from '../../tier/placement.ts';
import type { Random } from '../statistics.ts';
import { makeDonors, SLAB_CHARGE_BYTES, type Donor } from './donors.ts';

/** Mean time until a slab with `copies` copies is lost. */
export function meanTimeToLoss(copies: number, mttf: number, repair: number): number {
  let total = 0;
  let step = 0;
  for (let away = 0; away < copies; away += 1) {
    // From `away` copies away to one more, with all the ways back in between.
    step = (1 + (away / repair) * step) / ((copies - away) / mttf);
    total += step;
  }
  return total;
}

/** The chance that a slab is lost within `duration`. */
export function lossChance(copies: number, mttf: number, repair: number, duration: number): number {
  return -Math.expm1(-duration / meanTimeToLoss(copies, mttf, repair));
}

/** The share of all sets of `copies` donors that have a slab together. */
export function sharedSetShare(donorCount: number, copies: number, slabCount: number): number {
  let sets = 1;
  for (let at = 0; at < copies; at += 1) sets *= (donorCount - at) / (at + 1);
  return -Math.expm1(slabCount * Math.log1p(-1 / sets));
}

/**
 * How often a death loses something, for a whole rack, at most: all donors are taken to be equally full, while
 * one that has just come back has little, and two sets that go at once count twice.
 */
export function rackLossRate(
  donorCount: number,
  copies: number,
  slabCount: number,
  mttf: number,
  repair: number,
): number {
  let rate = donorCount / mttf;
  // Each of the others that the set needs died within the last `repair`; in any order.
  for (let at = 1; at < copies; at += 1) rate *= ((donorCount - at) * repair) / mttf / at;
  return rate * sharedSetShare(donorCount, copies, slabCount);
}

/** What a simulation is asked. */
export interface LossPlan {
  readonly donorCount: number;
  readonly slabCount: number;
  readonly copies: number;
  readonly mttf: number;
  readonly repair: number;
  readonly duration: number;
}

/** What came of it. */
export interface Losses {
  readonly deathCount: number;
  /** Deaths that lost something. */
  readonly lossCount: number;
  readonly lostSlabs: number;
}

interface Held {
  copies: Donor[];
  /** Tells what is due for an earlier life of the slab. */
  life: number;
}

/** Lets donors die, one after the other, for `duration`. A slab that was lost begins anew, whole. */
export function simulateLosses(plan: LossPlan, random: Random): Losses {
  const { donorCount, slabCount, copies, mttf, repair, duration } = plan;
  const donors = makeDonors(donorCount, random);
  // Room is not the question here: it is equal and never short.
  for (const donor of donors) donor.freeBytes = Number.MAX_SAFE_INTEGER;
  const slabs: Held[] = [];
  const held = donors.map(() => new Set<Held>());
  const add = (slab: Held): void => {
    const chosen = placeCopy(donors, SLAB_CHARGE_BYTES, slab.copies, random);
    if (chosen === undefined) return;
    slab.copies.push(chosen);
    held[chosen.index]?.add(slab);
  };
  const fill = (slab: Held): void => {
    for (let count = 0; count < copies; count += 1) add(slab);
  };
  for (let index = 0; index < slabCount; index += 1) {
    const slab: Held = { copies: [], life: 0 };
    fill(slab);
    slabs.push(slab);
  }
  /** In the order of time: every repair takes equally long. */
  const repairs: { at: number; slab: Held; life: number }[] = [];
  let nextRepair = 0;
  let deathCount = 0;
  let lossCount = 0;
  let lostSlabs = 0;
  for (let now = 0; ;) {
    now += (-Math.log(1 - random()) * mttf) / donorCount;
    if (now > duration) return { deathCount, lossCount, lostSlabs };
    for (let due = repairs[nextRepair]; due !== undefined && due.at <= now;) {
      if (due.life === due.slab.life) add(due.slab);
      nextRepair += 1;
      due = repairs[nextRepair];
    }
    deathCount += 1;
    const dead = donors[Math.floor(random() * donorCount)] as Donor;
    const lostBefore = lostSlabs;
    for (const slab of [...(held[dead.index] ?? [])]) {
      held[dead.index]?.delete(slab);
      slab.copies = slab.copies.filter((copy) => copy !== dead);
      if (slab.copies.length > 0) {
        repairs.push({ at: now + repair, slab, life: slab.life });
        continue;
      }
      lostSlabs += 1;
      slab.life += 1;
      fill(slab);
    }
    if (lostSlabs > lostBefore) lossCount += 1;
  }
}
