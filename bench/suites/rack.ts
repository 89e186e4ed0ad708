/**
 * A rack of 10, 100 and 1 000 nodes, each of which lends and borrows, simulated with the product's own
 * placement, discovery, keepalive and codecs, and with repair's rules and numbers: how evenly it fills, what
 * happens when donors die, how likely data is lost, how its nodes meet and what that costs. Simulations repeat
 * from the seed and need no quiet machine; only the cost of a choice and of a live session are measured.
 * docs/scale.md tells what comes out.
 */
import { setImmediate as immediate } from 'node:timers/promises';
import { lossCheckStudy, lossStudy } from '../rack/loss-studies.ts';
import { gossipStudy, segmentStudy, trafficStudy } from '../rack/membership-studies.ts';
import { measureMessages, type MessageSizes } from '../rack/message-sizes.ts';
import { measurePeerCost, type PeerCost } from '../rack/peer-cost.ts';
import { balanceStudy, choiceStudy, Racks } from '../rack/placement-studies.ts';
import { repairStudy } from '../rack/repair-studies.ts';
import { renderStudy, type Study } from '../rack/study.ts';
import { formatNumber, layOut } from '../table.ts';
import { reasonOf } from '../trials.ts';
import type { Suite } from './suite.ts';

const SHAPES = {
  quick: { nodeCounts: [10, 100], gossipCounts: [10, 60], levels: [0, 20, 40], cpuMs: 2_000 },
  full: {
    nodeCounts: [10, 100, 1000],
    // Every unknown advert is a walk over all entries, for each node: beyond 300 it takes too long.
    gossipCounts: [10, 100, 300],
    levels: [0, 50, 100, 150, 200],
    cpuMs: 5_000,
  },
};
const CHOICE_NODE_COUNTS = [10, 100, 1000];
/** What a control node takes today, beside the racks. */
const MEMBER_COUNT_MAX = 250;
const SEED_MAX = 2 ** 31;

function renderSizes(sizes: MessageSizes): string {
  const rows = [
    ['PING, PONG', sizes.ping],
    ['NOTICE of room', sizes.usage],
    ['renew 1 lease', sizes.renew(1)],
    ['renew 100 leases', sizes.renew(100)],
    ['question for peers', sizes.exchangeRequest],
    ['answer, 9 peers', sizes.exchangeReply(9)],
    ['answer, 64 peers', sizes.exchangeReply(64)],
    ['heartbeat to the control plane', sizes.heartbeat],
    ['its answer', sizes.heartbeatReply],
    ['mDNS question', sizes.query],
    ['mDNS advert', sizes.advert],
  ] as const;
  const cells = rows.map(([name, bytes]) => [name, String(bytes)]);
  return `Messages: bytes of the record, or of the datagram\n\n${layOut(['message', 'bytes'], cells)}`;
}

function renderCost(cost: PeerCost): string {
  const mib = (bytes: number): string => formatNumber(bytes / 2 ** 20);
  const levels = cost.levels.map((level) => [
    ...[String(level.sessions), mib(level.heapBytes), mib(level.residentBytes)],
    ...[mib(level.lockedBytes), mib(level.virtualBytes), String(level.descriptors)],
    `${formatNumber(100 * level.cpuShare)} %`,
  ]);
  const one = [
    ['heap of a known node without a session, bytes', formatNumber(cost.knownPeerBytes)],
    ['heap of a session, bytes', formatNumber(cost.heapBytes)],
    ['other memory of a session that V8 knows of, bytes', formatNumber(cost.externalBytes)],
    ['resident memory of a session, bytes', formatNumber(cost.residentBytes)],
    ['locked memory of a session, resident, bytes', formatNumber(cost.lockedResidentBytes)],
    ['locked memory of a session as the limit counts it, bytes', formatNumber(cost.lockedBytes)],
    ['address space of a session, bytes', formatNumber(cost.virtualBytes)],
    ['descriptors of a session', formatNumber(cost.descriptors)],
    ['processor of a calm session, share of one', formatNumber(100 * cost.cpuShare) + ' %'],
  ];
  const header = [
    'sessions',
    'heap MiB',
    'resident MiB',
    'locked MiB',
    'virtual MiB',
    'fds',
    'CPU',
  ];
  return (
    `Peers: a hub with so many calm sessions (measured)\n\n${layOut(header, levels)}\n\n` +
    layOut(['each peer', 'slope'], one)
  );
}

/** See the top of the file. */
export const rack: Suite = {
  name: 'rack',
  description: '10 to 1 000 nodes, simulated: placement, repair, losses, membership',
  run: async ({ quick, random, stage, note }) => {
    const { nodeCounts, gossipCounts, levels, cpuMs } = SHAPES[quick ? 'quick' : 'full'];
    const seed = Math.floor(random() * SEED_MAX);
    const failures: Record<string, string> = {};
    const texts: string[] = [];
    const data: Record<string, unknown> = { seed };
    const add = async <Row extends object>(
      name: string,
      make: () => Study<Row>,
    ): Promise<Study<Row>> => {
      // A signal can end the run between two studies.
      await immediate();
      const study = make();
      texts.push(renderStudy(study));
      note(renderStudy(study));
      data[name] = study.rows;
      return study;
    };
    const racks = new Racks(seed);
    note(`rack: seed ${seed}; placement`);
    const balance = await add('balance', () => balanceStudy(nodeCounts, racks));
    await add('choice', () => choiceStudy(CHOICE_NODE_COUNTS, seed));
    const repair = await add('repair', () => repairStudy(nodeCounts, racks, seed, note));
    note('losses');
    await add('lossCheck', () => lossCheckStudy(seed, quick));
    const ones = repair.rows.filter(({ event, gbps, copies, knows, busy }) => {
      return event === 'one node' && gbps === 1 && copies === 2 && knows === Infinity && !busy;
    });
    await add('loss', () => lossStudy(new Map(ones.map(({ nodes, lastS }) => [nodes, lastS]))));
    await add('gossip', () => gossipStudy(gossipCounts, seed, quick, note));
    const sizes = measureMessages();
    texts.push(renderSizes(sizes));
    const tiers = balance.rows.filter(({ rule, copies, knows }) => {
      return rule === 'tier' && copies === 2 && knows === Infinity;
    });
    const lenders = new Map(tiers.map(({ nodes, lenderCount }) => [nodes, lenderCount]));
    await add('traffic', () => trafficStudy(nodeCounts, lenders, sizes));
    await add('segment', () => segmentStudy([...nodeCounts, MEMBER_COUNT_MAX], sizes, seed));
    try {
      note('live sessions');
      const cost = await measurePeerCost(stage, levels, cpuMs);
      texts.push(renderCost(cost));
      data['peers'] = cost;
    } catch (thrown) {
      failures['peers'] = reasonOf(thrown);
    }
    return { data, text: texts.join('\n\n'), panels: [], failures };
  },
};
