/** Questions about donors that die: how long until all copies are there again, and what it costs whom. */
import { KEEPALIVE_DEFAULTS } from '../../peer/keepalive-machine.ts';
import { VOLUME_TICK_MS } from '../../tier/volume.ts';
import { quantile, seededRandom } from '../statistics.ts';
import { formatNumber } from '../table.ts';
import { zoneSizeOf, type Donor } from './donors.ts';
import type { Rack } from './fill.ts';
import type { Racks } from './placement-studies.ts';
import { RackRepair, SLAB_BYTES } from './repair.ts';
import { percent, type Study } from './study.ts';

/** What TCP on Ethernet leaves of a link: 1448 bytes of each frame of 1538. */
const PAYLOAD_SHARE = 1448 / 1538;
const LIMIT_MS = 3_600_000;
/** Churn: each node dies after so long on average, and is back, empty, after so long. */
const CHURN_MTTF_MS = 3_600_000;
const CHURN_BACK_MS = 60_000;
const CHURN_MS = 600_000;

/** What happens. */
type Event = 'one node' | 'a zone' | 'churn';

interface Case {
  readonly nodes: number;
  readonly event: Event;
  readonly gbps: number;
  readonly copies: number;
  readonly knows: number;
  readonly busy: boolean;
}

/** A case and how it went. */
export interface RepairRow extends Case {
  readonly deadCount: number;
  /** Copies that died and belonged to a volume that lived on, GiB. */
  readonly damagedGib: number;
  readonly movedGib: number;
  /** From death until a slab had all copies, seconds. */
  readonly middleS: number;
  readonly lastS: number;
  /** Slabs of which no copy was left. */
  readonly lostSlabs: number;
  /** Of the slabs that lost a copy. */
  readonly lostShare: number;
  /** Machines that others read from, and the busiest over their mean. */
  readonly servedBy: number;
  readonly servedMaxOverMean: number;
  /** The most bytes that one machine sent, served and relayed, GiB. */
  readonly busiestGib: number;
}

function casesOf(nodes: number, isLargest: boolean): Case[] {
  const base = {
    nodes,
    event: 'one node',
    gbps: 1,
    copies: 2,
    knows: Infinity,
    busy: false,
  } as const;
  const few: Case[] = [base, { ...base, gbps: 10 }];
  if (nodes >= 100) few.push({ ...base, event: 'a zone' }, { ...base, event: 'a zone', gbps: 10 });
  if (!isLargest) return few;
  const more: Case[] = [
    ...[{ ...base, copies: 3 }, { ...base, event: 'a zone', copies: 3 } as const],
    ...[
      { ...base, busy: true },
      { ...base, knows: 64 },
      { ...base, knows: 16 },
    ],
  ];
  const churn: Case = { ...base, event: 'churn', gbps: 10 };
  return [...few, ...more, churn, { ...churn, copies: 3 }];
}

function damagedBy(rack: Rack, dead: ReadonlySet<Donor>): number {
  let copies = 0;
  for (const { owner, copies: all } of rack.slabs) {
    if (!dead.has(owner)) copies += all.filter((copy) => dead.has(copy)).length;
  }
  return copies;
}

/** The one that lends as much as most. */
function middleDonor({ donors }: Rack): Donor {
  const sorted = [...donors].sort((a, b) => a.usedBytes - b.usedBytes || a.index - b.index);
  return sorted[Math.floor(sorted.length / 2)] as Donor;
}

function churn(repair: RackRepair, rack: Rack, random: () => number): void {
  const dead: { donor: Donor; backAtMs: number }[] = [];
  while (repair.nowMs < CHURN_MS) {
    for (const donor of rack.donors) {
      if (!donor.up || random() >= VOLUME_TICK_MS / CHURN_MTTF_MS) continue;
      repair.kill(donor);
      dead.push({ donor, backAtMs: repair.nowMs + CHURN_BACK_MS });
    }
    for (const { donor } of dead.filter(({ backAtMs }) => backAtMs <= repair.nowMs)) {
      repair.revive(donor);
    }
    dead.splice(0, dead.filter(({ backAtMs }) => backAtMs <= repair.nowMs).length);
    repair.tick();
  }
}

/** Runs one case on a rack, which is used up. */
function runCase(one: Case, rack: Rack, seed: number): RepairRow {
  const { event, gbps, copies, busy } = one;
  const random = seededRandom(seed + 1);
  const repair = new RackRepair(
    rack,
    {
      ...{ copies, busy, noticedAfterMs: KEEPALIVE_DEFAULTS.deadMs },
      linkBytesPerS: (gbps * 1e9 * PAYLOAD_SHARE) / 8,
    },
    random,
  );
  const victim = middleDonor(rack);
  const dead =
    event === 'one node' ? [victim] : rack.donors.filter(({ zone }) => zone === 'zone-1');
  const damaged = event === 'churn' ? NaN : damagedBy(rack, new Set(dead));
  if (event === 'churn') churn(repair, rack, random);
  else repair.kill(...dead);
  if (event !== 'churn') repair.runUntilWhole(LIMIT_MS);
  const { counts, loads } = repair;
  const served = loads.map(({ servedBytes }) => servedBytes).filter((bytes) => bytes > 0);
  const mean = served.reduce((sum, bytes) => sum + bytes, 0) / Math.max(1, served.length);
  const sent = loads.map(({ servedBytes, relayedBytes }) => servedBytes + relayedBytes);
  const hit = counts.wholeAfterMs.length + counts.lostSlabs + repair.damagedCount;
  return {
    ...one,
    deadCount: counts.deadCount,
    damagedGib: (damaged * SLAB_BYTES) / 2 ** 30,
    movedGib: counts.movedBytes / 2 ** 30,
    middleS: quantile(counts.wholeAfterMs, 0.5) / 1000,
    lastS: quantile(counts.wholeAfterMs, 1) / 1000,
    lostSlabs: counts.lostSlabs,
    lostShare: counts.lostSlabs / Math.max(1, hit),
    servedBy: served.length,
    servedMaxOverMean: served.length === 0 ? NaN : Math.max(...served) / mean,
    busiestGib: Math.max(...sent) / 2 ** 30,
  };
}

/** What happens when donors die. */
export function repairStudy(
  nodeCounts: readonly number[],
  racks: Racks,
  seed: number,
  note: (text: string) => void,
): Study<RepairRow> {
  const largest = Math.max(...nodeCounts);
  const rows = nodeCounts.flatMap((nodes) =>
    casesOf(nodes, nodes === largest).map((one) => {
      note(`repair: ${nodes} nodes, ${one.event}, ${one.gbps} Gb/s, ${one.copies} copies`);
      return runCase(one, racks.tier(nodes, one.copies, one.knows), seed);
    }),
  );
  return {
    title:
      `Repair: half of the room lent, a zone is ${zoneSizeOf(largest)} of ${largest} nodes, churn is ` +
      `one death an hour and node for ${CHURN_MS / 60_000} min`,
    rows,
    columns: {
      nodes: ({ nodes }) => String(nodes),
      dies: ({ event, deadCount }) => (event === 'churn' ? `${deadCount}, churn` : event),
      'Gb/s': ({ gbps }) => String(gbps),
      copies: ({ copies }) => String(copies),
      knows: ({ knows }) => (Number.isFinite(knows) ? String(knows) : 'all'),
      clients: ({ busy }) => (busy ? 'read' : 'calm'),
      'damaged GiB': ({ damagedGib }) => formatNumber(damagedGib),
      'moved GiB': ({ movedGib }) => formatNumber(movedGib),
      'half whole s': ({ middleS }) => formatNumber(middleS),
      'all whole s': ({ lastS }) => formatNumber(lastS),
      'lost slabs': ({ lostSlabs, lostShare }) => `${lostSlabs} (${percent(lostShare)})`,
      'served by': ({ servedBy }) => String(servedBy),
      'busiest / mean': ({ servedMaxOverMean }) => formatNumber(servedMaxOverMean),
      'busiest sent GiB': ({ busiestGib }) => formatNumber(busiestGib),
    },
  };
}
