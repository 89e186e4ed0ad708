/** Messages weigh what the protocol says, rates follow from the intervals, and nodes that meet keep the bounds. */
import t from 'tap';
import { simulateGossip, type GossipPlan } from '../../../bench/rack/gossip.ts';
import {
  advertsPerSecond,
  controlRate,
  pingsPerSecond,
  segmentRate,
  sessionRates,
} from '../../../bench/rack/membership.ts';
import { datagramOnWire, measureMessages, onWire } from '../../../bench/rack/message-sizes.ts';
import { seededRandom } from '../../../bench/statistics.ts';

const SIZES = measureMessages();

t.test('messages: docs/peer-protocol.md sections 5 and 6, restated', async (t) => {
  // 8 of lengths, 16 of header, 16 of tag.
  t.match(SIZES, { ping: 40, pong: 40 });
  // {"method": "peers"}: 1 + 7 + 6, padded to 16.
  t.equal(SIZES.exchangeRequest, 40 + 16);
  t.ok(SIZES.usage > 40 && SIZES.usage < 256);
  const perLease = (SIZES.renew(101) - SIZES.renew(1)) / 100;
  t.ok(perLease >= 16.5 && perLease <= 17.5, 'a lease id is 16 digits and a byte');
  const perHint = (SIZES.exchangeReply(64) - SIZES.exchangeReply(9)) / 55;
  t.ok(perHint > 60 && perHint < 80, `${perHint} bytes a peer that is told of`);
  t.equal(SIZES.exchangeReply(64), SIZES.exchangeReply(200), 'no more than 64 are told');
  t.ok(SIZES.advert > 300 && SIZES.advert < 1472, 'an advert fits into one frame');
  t.equal(onWire(40), 110);
  t.equal(onWire(1449), 1449 + 140, 'two segments');
  t.equal(datagramOnWire(100), 146);
});

t.test('a calm session asks once a second', async (t) => {
  t.ok(Math.abs(pingsPerSecond() - 1) < 0.02);
});

t.test('a segment is asked about once a second, however many are on it', async (t) => {
  for (const nodes of [1, 2, 10, 100]) {
    const { queries, answers } = advertsPerSecond(nodes, seededRandom(nodes));
    t.ok(queries > 0.7 && queries < 1.3, `${nodes} nodes: ${queries} questions a second`);
    t.ok(answers > 0.7 && answers < 1.3, `${nodes} nodes: each answers ${answers} times a second`);
  }
});

t.test('what a node sends grows with its sessions, and a segment with its nodes', async (t) => {
  const plan = { lenderCount: 10, leaseCount: 100, busy: true };
  const some = sessionRates({ ...plan, sessionCount: 100 }, SIZES);
  const more = sessionRates({ ...plan, sessionCount: 200 }, SIZES);
  for (const kind of ['keepalive', 'room', 'exchange'] as const) {
    t.ok(Math.abs(more[kind].perS / some[kind].perS - 2) < 1e-9, kind);
  }
  t.same(more.renewal, some.renewal, 'leases are those of the donors that one borrows from');
  t.equal(some.room.perS, 200, 'twice a second on each session while pages are written');
  t.equal(sessionRates({ ...plan, sessionCount: 100, busy: false }, SIZES).room.perS, 0);
  const ratio =
    segmentRate(400, SIZES, seededRandom(1)).bytesPerS /
    segmentRate(100, SIZES, seededRandom(1)).bytesPerS;
  t.ok(ratio > 3.5 && ratio < 4.5);
  t.equal(controlRate(200, SIZES).perS, 2 * controlRate(100, SIZES).perS);
});

const GOSSIP: GossipPlan = { nodeCount: 30, source: 'exchange', durationMs: 60_000, tickMs: 500 };

t.test('a few nodes that know one address end in a full mesh', async (t) => {
  const result = simulateGossip(GOSSIP, seededRandom(1));
  t.match(result, { minSessions: 29, maxSessions: 29, meshShare: 1, placeRefusals: 0 });
  t.same(simulateGossip(GOSSIP, seededRandom(1)), result);
});

t.test('on one segment as well, without any address', async (t) => {
  const result = simulateGossip({ ...GOSSIP, source: 'mdns' }, seededRandom(1));
  t.match(result, { minSessions: 29, meshShare: 1 });
});

t.test('nobody gets past the bound on peers', async (t) => {
  const plan: GossipPlan = { nodeCount: 300, source: 'address', durationMs: 60_000, tickMs: 2000 };
  const { maxSessions, minSessions, permitRefusals, placeRefusals } = simulateGossip(
    plan,
    seededRandom(1),
  );
  t.equal(maxSessions, 256);
  t.equal(minSessions, 0, 'who comes too late has nobody');
  t.ok(permitRefusals > 0);
  t.ok(placeRefusals > 0);
});
