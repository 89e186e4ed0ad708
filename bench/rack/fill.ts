/**
 * A rack that fills: every node borrows slab after slab, all at once, as volumes do (`tier/leasing.ts`:
 * one copy after the other as placement chooses, whoever refuses is passed by), until all of them have what
 * they want. Who gets a copy is decided by the product's own placement; two plainer rules stand beside it.
 * Donors say how much room they have only now and then, as in the product. Pure, and repeats from its seed.
 */
import { place } from '../../control-plane/placement.ts';
import { placeCopy } from '../../tier/placement.ts';
import { shuffled, type Random } from '../statistics.ts';
import { drawSome, makeDonors, SLAB_CHARGE_BYTES, type Donor } from './donors.ts';

/** Chooses who is asked for one more copy; undefined when nobody could take it. */
export type Chooser = (
  candidates: readonly Donor[],
  sizeBytes: number,
  placed: readonly Donor[],
  random: Random,
) => Donor | undefined;

function fits(candidates: readonly Donor[], sizeBytes: number, placed: readonly Donor[]): Donor[] {
  return candidates.filter(
    ({ freeBytes, host }) => freeBytes >= sizeBytes && !placed.some((copy) => copy.host === host),
  );
}

/** "Random" numbers by which each of two candidates is drawn once. */
function alternate(): Random {
  let at = 0;
  return () => (at++ % 2) / 2;
}

/** The rules that are compared. */
export const CHOOSERS = {
  /** Volumes: `tier/placement.ts`. */
  tier: placeCopy,
  /** Leases of one copy each: `control-plane/placement.ts`. */
  'control-plane': (candidates, sizeBytes, placed, random) => {
    const placement = place(
      candidates,
      {
        ...{ sizeBytes, count: 1, zone: undefined, include: undefined },
        ...{ exclude: [], ownHostId: undefined, usedHostIds: placed.map(({ hostId }) => hostId) },
      },
      random,
    );
    if (!('nodeIds' in placement)) return undefined;
    const [nodeId = ''] = placement.nodeIds;
    return candidates.find((candidate) => candidate.nodeId === nodeId);
  },
  /** Any that has room. */
  'one at random': (candidates, sizeBytes, placed, random) => {
    const some = fits(candidates, sizeBytes, placed);
    return some[Math.floor(random() * some.length)];
  },
  /** As the tier, but drawn in proportion to their room: what the figures ask for. */
  'tier, drawn by room': (candidates, sizeBytes, placed, random) => {
    const some = fits(candidates, sizeBytes, placed);
    const room = some.reduce((sum, { freeBytes }) => sum + freeBytes, 0);
    const draw = (): Donor | undefined => {
      let left = random() * room;
      return some.find(({ freeBytes }) => (left -= freeBytes) < 0) ?? some.at(-1);
    };
    const two = [draw(), draw()].filter((drawn) => drawn !== undefined);
    return placeCopy(two, sizeBytes, placed, alternate());
  },
  /** The one with most room by its last word. */
  emptiest: (candidates, sizeBytes, placed) =>
    fits(candidates, sizeBytes, placed).reduce<Donor | undefined>(
      (best, each) => (best !== undefined && best.freeBytes >= each.freeBytes ? best : each),
      undefined,
    ),
} as const satisfies Readonly<Record<string, Chooser>>;

/** The name of one. */
export type ChooserName = keyof typeof CHOOSERS;

/** A slab of somebody's volume. */
export interface Slab {
  /** The node that borrows. */
  readonly owner: Donor;
  /** Who has it; the first is read when another is made whole. */
  copies: Donor[];
}

/** A full rack. */
export interface Rack {
  readonly donors: readonly Donor[];
  readonly slabs: readonly Slab[];
  /** Whom each node may borrow from, by its number. */
  readonly views: readonly (readonly Donor[])[];
  /** Leases that donors refused, since they had less room than they had said. */
  readonly refusedCount: number;
  /** Slabs with fewer copies than wanted. */
  readonly shortCount: number;
}

/** How a rack is filled. */
export interface FillPlan {
  readonly donorCount: number;
  readonly copies: number;
  /** Of all that is lent, so much is asked for. */
  readonly demandShare: number;
  /** Nodes that each may borrow from; drawn once. */
  readonly viewCount: number;
  /** Donors say how much room they have after so many slabs of everybody; 0: each time it changes. */
  readonly slabsPerWord: number;
  readonly chooser: ChooserName;
  /** Of one lease; default: a slab's. */
  readonly leaseBytes?: number;
}

/** Fills a rack. */
export function fillRack(plan: FillPlan, random: Random): Rack {
  const { donorCount, copies, demandShare, viewCount, slabsPerWord } = plan;
  const { leaseBytes = SLAB_CHARGE_BYTES } = plan;
  const donors = makeDonors(donorCount, random);
  const views = donors.map((owner) => {
    const others = donors.filter(({ hostIndex }) => hostIndex !== owner.hostIndex);
    return viewCount >= others.length ? others : drawSome(others, viewCount, random);
  });
  const offeredBytes = donors.reduce((sum, donor) => sum + donor.offeredBytes, 0);
  const wanted = (demandShare * offeredBytes) / leaseBytes / copies;
  const slabsPerOwner = Math.floor(wanted / donorCount);
  const choose: Chooser = CHOOSERS[plan.chooser];
  const slabs: Slab[] = [];
  let refusedCount = 0;
  let shortCount = 0;
  for (let round = 0; round < slabsPerOwner; round += 1) {
    if (slabsPerWord > 0 && round % slabsPerWord === 0) {
      for (const donor of donors) donor.tell();
    }
    for (const owner of shuffled(donors, random)) {
      const slab: Slab = { owner, copies: [] };
      let candidates = views[owner.index] ?? [];
      while (slab.copies.length < copies) {
        const chosen = choose(candidates, leaseBytes, slab.copies, random);
        if (chosen === undefined) break;
        if (chosen.take(leaseBytes)) {
          slab.copies.push(chosen);
          if (slabsPerWord === 0) chosen.tell();
        } else {
          refusedCount += 1;
          candidates = candidates.filter((each) => each !== chosen);
        }
      }
      if (slab.copies.length < copies) shortCount += 1;
      slabs.push(slab);
    }
  }
  for (const donor of donors) donor.tell();
  return { donors, slabs, views, refusedCount, shortCount };
}

/** A rack like another, with nodes of its own. */
export function copyRack(rack: Rack): Rack {
  const donors = rack.donors.map((donor) => donor.twin());
  const own = (donor: Donor): Donor => donors[donor.index] as Donor;
  return {
    ...rack,
    donors,
    slabs: rack.slabs.map(({ owner, copies }) => ({ owner: own(owner), copies: copies.map(own) })),
    views: rack.views.map((view) => view.map(own)),
  };
}

/** How evenly a rack is filled. */
export interface Balance {
  /** Bytes lent by the donor that lends most, over the mean. */
  readonly maxOverMeanBytes: number;
  /** Of its room, what the fullest donor lends, over the share of all. */
  readonly maxOverMeanShare: number;
  /** The same of the emptiest. */
  readonly minOverMeanShare: number;
  /** Donors without room for one slab more, share of all. */
  readonly fullShare: number;
  /** Slabs with two copies on one machine; must be 0. */
  readonly sharedHostCount: number;
  /** Slabs whose copies are all in one zone, share of all that have several. */
  readonly oneZoneShare: number;
  /** Donors that a node borrows from, mean. */
  readonly lenderCount: number;
  readonly refusedCount: number;
  readonly shortCount: number;
}

/** Judges a rack. */
export function balanceOf({ donors, slabs, refusedCount, shortCount }: Rack): Balance {
  const used = donors.map(({ usedBytes }) => usedBytes);
  const shares = donors.map(({ usedBytes, offeredBytes }) => usedBytes / offeredBytes);
  const sum = (numbers: readonly number[]): number => numbers.reduce((all, each) => all + each, 0);
  const meanShare = sum(used) / sum(donors.map(({ offeredBytes }) => offeredBytes));
  const several = slabs.filter(({ copies }) => copies.length > 1);
  const count = (of: (slab: Slab) => number): number =>
    several.filter((slab) => of(slab) < slab.copies.length).length;
  const oneZone = several.filter(
    ({ copies }) => new Set(copies.map(({ zone }) => zone)).size === 1,
  );
  const lenders = donors.map(() => new Set<Donor>());
  for (const { owner, copies } of slabs) for (const copy of copies) lenders[owner.index]?.add(copy);
  const full = donors.filter(
    ({ offeredBytes, usedBytes }) => offeredBytes - usedBytes < SLAB_CHARGE_BYTES,
  );
  return {
    maxOverMeanBytes: Math.max(...used) / (sum(used) / donors.length),
    maxOverMeanShare: Math.max(...shares) / meanShare,
    minOverMeanShare: Math.min(...shares) / meanShare,
    fullShare: full.length / donors.length,
    sharedHostCount: count(({ copies }) => new Set(copies.map(({ host }) => host)).size),
    oneZoneShare: oneZone.length / Math.max(1, several.length),
    lenderCount: sum(lenders.map(({ size }) => size)) / donors.length,
    ...{ refusedCount, shortCount },
  };
}
