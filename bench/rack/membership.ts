/**
 * What it costs a node to know others: messages and bytes a second, by the intervals that the product
 * keeps. Keepalive is counted from its machine (`peer/keepalive-machine.ts`); the rest are periods. A node
 * counts what it sends; in a rack of equal nodes it receives as much. Pure.
 *
 * - on every session: PING and PONG both ways; while the provider is written to, a NOTICE of its room twice a
 *   second, to whoever is connected, borrowing or not; once in 30 s the question for peers, and the answer;
 * - on sessions with donors that one borrows from: leases renewed at a quarter of their time to live;
 * - on a network segment: an advert of each node for each question, to everybody.
 */
import {
  EXCHANGE_INTERVAL_MS,
  ANSWER_GAP_MS,
  DISCOVERY_TICK_MS,
  QUERY_INTERVAL_MS,
  QUERY_JITTER_MS,
} from '../../peer/discovery/constants.ts';
import { EXCHANGE_COUNT_MAX } from '../../peer/exchange-control.ts';
import {
  KEEPALIVE_DEFAULTS,
  KEEPALIVE_TICK_MS,
  KeepaliveMachine,
} from '../../peer/keepalive-machine.ts';
import { HEARTBEAT_MS } from '../../control-plane/provider-machine.ts';
import { HELLO_INTERVAL_MS } from '../../control-plane/control-link-machine.ts';
import type { Random } from '../statistics.ts';
import { datagramOnWire, onWire, type MessageSizes } from './message-sizes.ts';

/** `peer/session.ts`: least time between two notices of usage. */
const USAGE_NOTICE_INTERVAL_MS = 500;
/** `tier/lease-renewal.ts` and the option `lease-ttl`: a quarter of 120 s. */
const RENEWAL_INTERVAL_MS = 30_000;

/** What a node sends a second, of one kind. */
export interface Rate {
  readonly perS: number;
  /** Frames on Ethernet. */
  readonly bytesPerS: number;
}

/** PINGs that one side of a calm session sends a second, by its machine. */
export function pingsPerSecond(durationMs = 60_000): number {
  const machine = new KeepaliveMachine(KEEPALIVE_DEFAULTS, 0);
  let pings = 0;
  for (let nowMs = 0; nowMs < durationMs; nowMs += KEEPALIVE_TICK_MS) {
    if (machine.tick(nowMs, false) !== 'ping') continue;
    pings += 1;
    machine.onBytes();
    machine.onPong(machine.pingId, nowMs);
  }
  return (pings * 1000) / durationMs;
}

/** Questions a second on a segment of so many nodes, and answers of each, by the rules of `mdns-link.ts`. */
export function advertsPerSecond(
  nodeCount: number,
  random: Random,
  durationMs = 60_000,
): { queries: number; answers: number } {
  const nodes = Array.from({ length: nodeCount }, () => ({
    ...{
      tickAtMs: random() * DISCOVERY_TICK_MS,
      askAtMs: 0,
      heard: false,
      answeredAtMs: -Infinity,
    },
  }));
  let queries = 0;
  let answers = 0;
  for (let startMs = 0; startMs < durationMs; startMs += DISCOVERY_TICK_MS) {
    // Each looks at its clock once in the interval, at its own time.
    for (const node of [...nodes].sort((a, b) => a.tickAtMs - b.tickAtMs)) {
      const nowMs = startMs + node.tickAtMs;
      if (nowMs < node.askAtMs) continue;
      node.askAtMs = nowMs + QUERY_INTERVAL_MS + random() * QUERY_JITTER_MS;
      const isAsked = node.heard;
      node.heard = false;
      if (isAsked) continue;
      queries += 1;
      for (const other of nodes) {
        if (other !== node) other.heard = true;
        if (nowMs - other.answeredAtMs < ANSWER_GAP_MS) continue;
        other.answeredAtMs = nowMs;
        answers += 1;
      }
    }
  }
  const seconds = durationMs / 1000;
  return { queries: queries / seconds, answers: answers / nodeCount / seconds };
}

/** What a node has to do with others. */
export interface MembershipPlan {
  /** Sessions. */
  readonly sessionCount: number;
  /** Of them, with donors that it borrows from. */
  readonly lenderCount: number;
  /** Leases that it keeps, in all. */
  readonly leaseCount: number;
  /** Whether pages are written all the while, so that the room of donors changes. */
  readonly busy: boolean;
}

function rate(perS: number, recordBytes: number): Rate {
  return { perS, bytesPerS: perS * onWire(recordBytes) };
}

function both(...rates: readonly Rate[]): Rate {
  return {
    perS: rates.reduce((sum, { perS }) => sum + perS, 0),
    bytesPerS: rates.reduce((sum, { bytesPerS }) => sum + bytesPerS, 0),
  };
}

/** What a node sends on its sessions, by kind. */
export function sessionRates(
  { sessionCount, lenderCount, leaseCount, busy }: MembershipPlan,
  sizes: MessageSizes,
): Readonly<Record<'keepalive' | 'room' | 'exchange' | 'renewal', Rate>> {
  const pings = sessionCount * pingsPerSecond();
  const notices = busy ? (sessionCount * 1000) / USAGE_NOTICE_INTERVAL_MS : 0;
  const asks = (sessionCount * 1000) / EXCHANGE_INTERVAL_MS;
  const hintCount = Math.max(0, Math.min(EXCHANGE_COUNT_MAX, sessionCount - 1));
  const renewals = (lenderCount * 1000) / RENEWAL_INTERVAL_MS;
  const leasesPerLender = Math.max(1, Math.ceil(leaseCount / Math.max(1, lenderCount)));
  return {
    keepalive: both(rate(pings, sizes.ping), rate(pings, sizes.pong)),
    room: rate(notices, sizes.usage),
    exchange: both(rate(asks, sizes.exchangeRequest), rate(asks, sizes.exchangeReply(hintCount))),
    // As a borrower; as a donor it answers as many.
    renewal: both(rate(renewals, sizes.renew(leasesPerLender)), rate(renewals, sizes.renewReply)),
  };
}

/** What a node hears by mDNS on a segment of so many. */
export function segmentRate(nodeCount: number, sizes: MessageSizes, random: Random): Rate {
  const { queries, answers } = advertsPerSecond(nodeCount, random);
  return {
    perS: queries + answers * nodeCount,
    bytesPerS:
      queries * datagramOnWire(sizes.query) + answers * nodeCount * datagramOnWire(sizes.advert),
  };
}

/** What a control node with so many providers, each a client as well, receives and sends a second. */
export function controlRate(memberCount: number, sizes: MessageSizes): Rate {
  const beats = (memberCount * 1000) / HEARTBEAT_MS;
  const hellos = (memberCount * 1000) / HELLO_INTERVAL_MS;
  const pings = memberCount * pingsPerSecond();
  const one = both(
    rate(beats, sizes.heartbeat),
    rate(beats, sizes.heartbeatReply),
    rate(hellos, sizes.hello),
    rate(hellos, sizes.helloReply),
    // Each side asks the other.
    ...[rate(2 * pings, sizes.ping), rate(2 * pings, sizes.pong)],
  );
  return one;
}
