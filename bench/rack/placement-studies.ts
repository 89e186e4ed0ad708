/** Questions about placement: how evenly a rack fills, and what a choice costs. */
import { place } from '../../control-plane/placement.ts';
import { placeCopy } from '../../tier/placement.ts';
import { seededRandom } from '../statistics.ts';
import { formatNumber } from '../table.ts';
import { makeDonors, SLAB_CHARGE_BYTES } from './donors.ts';
import {
  balanceOf,
  copyRack,
  fillRack,
  type Balance,
  type ChooserName,
  type Rack,
} from './fill.ts';
import { percent, type Study } from './study.ts';

/** Of all room, so much is asked for. */
const DEMAND_SHARE = 0.5;
/** A donor says how much room it has twice a second; a volume fills two slabs in that time at 1 Gb/s. */
const SLABS_PER_WORD = 4;
/** The control plane leases in larger pieces, and knows its own ledger. */
const MANAGED_LEASE_BYTES = 256 * 2 ** 20;
const CHOICE_COUNT = 50;
const CHOICE_ROUNDS = 9;

/** A rack that was filled. */
export interface BalanceRow extends Balance {
  readonly nodes: number;
  readonly rule: ChooserName;
  readonly copies: number;
  readonly knows: number;
}

type Variant = Pick<BalanceRow, 'rule' | 'copies' | 'knows'>;

const RULES: readonly Variant[] = [
  { rule: 'tier', copies: 2, knows: Infinity },
  { rule: 'tier, drawn by room', copies: 2, knows: Infinity },
  { rule: 'one at random', copies: 2, knows: Infinity },
  { rule: 'control-plane', copies: 2, knows: Infinity },
];
const OF_THE_LARGEST: readonly Variant[] = [
  { rule: 'tier', copies: 3, knows: Infinity },
  { rule: 'tier', copies: 2, knows: 16 },
  { rule: 'tier', copies: 2, knows: 64 },
  { rule: 'tier', copies: 2, knows: 255 },
];
/** Too slow, and too bad, for a larger one: it asks whoever said that it has most, as all others do. */
const EMPTIEST: Variant = { rule: 'emptiest', copies: 2, knows: Infinity };
const EMPTIEST_NODES_MAX = 100;

/** Racks that several studies begin with. */
export class Racks {
  readonly #seed: number;
  readonly #filled = new Map<string, Rack>();

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** A rack filled by the tier, the caller's own. */
  tier(nodes: number, copies: number, knows: number): Rack {
    const key = `${nodes} ${copies} ${knows}`;
    const rack =
      this.#filled.get(key) ?? fillBy({ rule: 'tier', copies, knows }, nodes, this.#seed);
    this.#filled.set(key, rack);
    return copyRack(rack);
  }

  /** A rack filled by any rule. */
  by(variant: Variant, nodes: number): Rack {
    const { rule, copies, knows } = variant;
    return rule === 'tier' ? this.tier(nodes, copies, knows) : fillBy(variant, nodes, this.#seed);
  }
}

function fillBy({ rule, copies, knows }: Variant, nodes: number, seed: number): Rack {
  const isManaged = rule === 'control-plane';
  return fillRack(
    {
      ...{ donorCount: nodes, copies, demandShare: DEMAND_SHARE, viewCount: knows, chooser: rule },
      slabsPerWord: isManaged ? 0 : SLABS_PER_WORD,
      leaseBytes: isManaged ? MANAGED_LEASE_BYTES : SLAB_CHARGE_BYTES,
    },
    seededRandom(seed),
  );
}

/** How evenly racks fill. */
export function balanceStudy(nodeCounts: readonly number[], racks: Racks): Study<BalanceRow> {
  const largest = Math.max(...nodeCounts);
  const rows = nodeCounts.flatMap((nodes) => {
    const variants = [
      ...RULES,
      ...(nodes <= EMPTIEST_NODES_MAX ? [EMPTIEST] : []),
      ...(nodes === largest ? OF_THE_LARGEST : []),
    ];
    return variants.map((variant): BalanceRow => {
      return { nodes, ...variant, ...balanceOf(racks.by(variant, nodes)) };
    });
  });
  return {
    title: 'Placement: offers of 2 to 32 GiB, half of all asked for',
    rows,
    columns: {
      nodes: ({ nodes }) => String(nodes),
      rule: ({ rule }) => rule,
      copies: ({ copies }) => String(copies),
      knows: ({ knows }) => (Number.isFinite(knows) ? String(knows) : 'all'),
      'fullest / mean': ({ maxOverMeanShare }) => formatNumber(maxOverMeanShare),
      'emptiest / mean': ({ minOverMeanShare }) => formatNumber(minOverMeanShare),
      'donors full': ({ fullShare }) => percent(fullShare),
      'in one zone': ({ oneZoneShare }) => percent(oneZoneShare),
      'on one machine': ({ sharedHostCount }) => String(sharedHostCount),
      refused: ({ refusedCount }) => String(refusedCount),
      short: ({ shortCount }) => String(shortCount),
      'borrows from': ({ lenderCount }) => formatNumber(lenderCount),
    },
  };
}

/** What one choice costs. */
interface ChoiceRow {
  readonly nodes: number;
  readonly tierUs: number;
  readonly controlUs: number;
}

/** Measured, so not the same twice. */
export function choiceStudy(nodeCounts: readonly number[], seed: number): Study<ChoiceRow> {
  const time = (choose: () => unknown): number => {
    const rounds = Array.from({ length: CHOICE_ROUNDS }, () => {
      const startMs = performance.now();
      for (let count = 0; count < CHOICE_COUNT; count += 1) choose();
      return ((performance.now() - startMs) * 1000) / CHOICE_COUNT;
    });
    // Whatever else runs only adds.
    return Math.min(...rounds);
  };
  const rows = nodeCounts.map((nodes) => {
    const random = seededRandom(seed);
    const donors = makeDonors(nodes, random);
    const placed = donors.slice(0, 1);
    const wish = {
      ...{ sizeBytes: SLAB_CHARGE_BYTES, count: 2, zone: undefined, include: undefined },
      ...{ exclude: [], ownHostId: 'host-0', usedHostIds: [] },
    };
    return {
      nodes,
      tierUs: time(() => placeCopy(donors, SLAB_CHARGE_BYTES, placed, random)),
      controlUs: time(() => place(donors, wish, random)),
    };
  });
  return {
    title: 'One choice: microseconds (measured)',
    rows,
    columns: {
      nodes: ({ nodes }) => String(nodes),
      'tier, one copy': ({ tierUs }) => formatNumber(tierUs),
      'control plane, two leases': ({ controlUs }) => formatNumber(controlUs),
    },
  };
}
