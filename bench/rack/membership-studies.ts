/** Questions about knowing each other: how nodes of a rack meet, and what that costs on the wire. */
import { seededRandom } from '../statistics.ts';
import { formatNumber } from '../table.ts';
import { simulateGossip, type GossipPlan, type GossipResult } from './gossip.ts';
import {
  controlRate,
  segmentRate,
  sessionRates,
  type MembershipPlan,
  type Rate,
} from './membership.ts';
import type { MessageSizes } from './message-sizes.ts';
import { percent, type Study } from './study.ts';

/** What the tier borrowed from, in the racks of the placement study, and how many leases a node keeps. */
const LEASES_PER_NODE = 395;
const GOSSIP_MS = 100_000;
const GOSSIP_QUICK_MS = 60_000;
const GOSSIP_TICK_MS = 2000;

type GossipRow = GossipPlan & GossipResult;

/** Who meets whom. */
export function gossipStudy(
  nodeCounts: readonly number[],
  seed: number,
  quick: boolean,
  note: (text: string) => void,
): Study<GossipRow> {
  const rows = nodeCounts.flatMap((nodeCount) =>
    (['mdns', 'exchange'] as const).map((source): GossipRow => {
      note(`discovery: ${nodeCount} nodes by ${source}`);
      const durationMs = quick ? GOSSIP_QUICK_MS : GOSSIP_MS;
      const plan = { nodeCount, source, durationMs, tickMs: GOSSIP_TICK_MS };
      return { ...plan, ...simulateGossip(plan, seededRandom(seed)) };
    }),
  );
  return {
    title: `Discovery: all start at once and trust each other; after ${(rows[0]?.durationMs ?? 0) / 1000} s`,
    rows,
    columns: {
      nodes: ({ nodeCount }) => String(nodeCount),
      by: ({ source }) => (source === 'mdns' ? 'mDNS, one segment' : 'one address, exchange'),
      'sessions: fewest': ({ minSessions }) => String(minSessions),
      middle: ({ medianSessions }) => String(medianSessions),
      most: ({ maxSessions }) => String(maxSessions),
      'of a full mesh': ({ meshShare }) => percent(meshShare),
      'most after s': ({ mostAfterS }) => formatNumber(mostAfterS),
      'no permit': ({ permitRefusals }) => String(permitRefusals),
      'no place': ({ placeRefusals }) => String(placeRefusals),
    },
  };
}

interface TrafficRow extends MembershipPlan {
  readonly nodes: number;
  readonly who: string;
  readonly rates: Readonly<Record<'keepalive' | 'room' | 'exchange' | 'renewal', Rate>>;
}

/** Messages and bytes a second that a node sends on its sessions. */
export function trafficStudy(
  nodeCounts: readonly number[],
  lenders: ReadonlyMap<number, number>,
  sizes: MessageSizes,
): Study<TrafficRow> {
  const rows = nodeCounts.flatMap((nodes): TrafficRow[] => {
    const lenderCount = Math.round(lenders.get(nodes) ?? nodes - 1);
    const row = (who: string, sessionCount: number, own: number, busy: boolean): TrafficRow => {
      const plan = { sessionCount, lenderCount: own, leaseCount: LEASES_PER_NODE, busy };
      return { nodes, who, ...plan, rates: sessionRates(plan, sizes) };
    };
    const rows = [
      row('all', nodes - 1, lenderCount, false),
      row('all', nodes - 1, lenderCount, true),
    ];
    // As many again borrow from it.
    if (nodes > 128) rows.push(row('64 lenders', 128, 64, false), row('64 lenders', 128, 64, true));
    return rows;
  });
  const total = ({ rates }: TrafficRow, of: (rate: Rate) => number): number =>
    Object.values(rates).reduce((sum, rate) => sum + of(rate), 0);
  const kilobytes = (rate: Rate): string => formatNumber(rate.bytesPerS / 1000);
  return {
    title: 'Sessions: what a node sends (and receives) a second; kB as frames on Ethernet',
    rows,
    columns: {
      nodes: ({ nodes }) => String(nodes),
      'connected to': ({ who }) => who,
      sessions: ({ sessionCount }) => String(sessionCount),
      pages: ({ busy }) => (busy ? 'written' : 'calm'),
      messages: (row) => formatNumber(total(row, ({ perS }) => perS)),
      'kB/s': (row) => formatNumber(total(row, ({ bytesPerS }) => bytesPerS) / 1000),
      keepalive: ({ rates }) => kilobytes(rates.keepalive),
      room: ({ rates }) => kilobytes(rates.room),
      exchange: ({ rates }) => kilobytes(rates.exchange),
      leases: ({ rates }) => kilobytes(rates.renewal),
      'whole rack MB/s': (row) =>
        formatNumber((row.nodes * total(row, ({ bytesPerS }) => bytesPerS)) / 1e6),
    },
  };
}

interface SegmentRow {
  readonly nodes: number;
  readonly segment: Rate;
  readonly control: Rate;
}

/** What a segment of mDNS carries, and a control node takes and gives. */
export function segmentStudy(
  nodeCounts: readonly number[],
  sizes: MessageSizes,
  seed: number,
): Study<SegmentRow> {
  const rows = nodeCounts.map((nodes) => ({
    nodes,
    segment: segmentRate(nodes, sizes, seededRandom(seed)),
    control: controlRate(nodes, sizes),
  }));
  return {
    title: 'mDNS on one segment (each node hears it all), and a control node with so many members',
    rows,
    columns: {
      nodes: ({ nodes }) => String(nodes),
      'mDNS packets/s': ({ segment }) => formatNumber(segment.perS),
      'mDNS kB/s': ({ segment }) => formatNumber(segment.bytesPerS / 1000),
      'control messages/s': ({ control }) => formatNumber(control.perS),
      'control kB/s': ({ control }) => formatNumber(control.bytesPerS / 1000),
    },
  };
}
