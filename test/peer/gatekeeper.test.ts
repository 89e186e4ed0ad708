import t, { type Test } from 'tap';
import { nodeIdOf } from '../../common/fingerprint.ts';
import { monotonicClock } from '../../common/clock.ts';
import type { MemcloudError } from '../../common/errors.ts';
import { silentLogger, type Logger } from '../../common/log.ts';
import { ConsentQueue, type ConsentAnswer } from '../../peer/consent.ts';
import { Gatekeeper } from '../../peer/gatekeeper.ts';
import { Invites } from '../../peer/invites.ts';
import { TrustStore } from '../../peer/trust.ts';

const publicKey = new Uint8Array(32).fill(1);
const PEER = { publicKey, nodeId: nodeIdOf(publicKey), name: 'alpha' };
const ORIGIN = { address: '10.0.0.1:5', dialled: false };

function setUp(t: Test) {
  const lines: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warn: (_fields, message) => lines.push(message),
    error: (_fields, message) => lines.push(message),
  };
  const trust = TrustStore.inMemory();
  const consent = new ConsentQueue({ clock: monotonicClock });
  t.teardown(() => consent.close());
  const invites = new Invites(monotonicClock);
  const gate = new Gatekeeper({ trust, consent, invites, clock: monotonicClock, logger });
  return { trust, consent, invites, lines, gate };
}

t.test('a trusted key comes in without a question', async (t) => {
  const { trust, consent, gate } = setUp(t);
  trust.trust(PEER);
  t.equal(
    gate.admit(PEER, ORIGIN, () => t.fail('nobody is asked')),
    'trusted',
  );
  t.same(consent.list(), []);
});

const ANSWERS: Record<ConsentAnswer, [admitted: boolean, decision: string]> = {
  once: [true, 'unknown'],
  trust: [true, 'trusted'],
  deny: [false, 'denied'],
};
for (const [answer, [admitted, decision]] of Object.entries(ANSWERS)) {
  t.test(
    `the answer "${answer}" ${admitted ? 'lets in' : 'keeps out'} and leaves the key ${decision}`,
    async (t) => {
      const { trust, consent, gate, lines } = setUp(t);
      const seen: (MemcloudError | undefined)[] = [];
      gate.admit(PEER, ORIGIN, (refusal) => seen.push(refusal));
      t.equal(lines.length, 1, 'the operator is told');
      consent.answer(consent.list()[0]!.id, answer as ConsentAnswer);
      t.equal(seen.length, 1);
      t.equal(seen[0]?.code, admitted ? undefined : 'ERR_PEER_UNTRUSTED');
      t.equal(trust.check(PEER), decision);
    },
  );
}

t.test('a denied key is refused without a question', async (t) => {
  const { trust, consent, gate } = setUp(t);
  trust.deny(PEER);
  t.throws(() => gate.admit(PEER, ORIGIN, () => undefined), { code: 'ERR_PEER_UNTRUSTED' });
  t.same(consent.list(), []);
});

t.test('a changed key is refused with an error line, and nobody is asked', async (t) => {
  const { trust, consent, gate, lines } = setUp(t);
  trust.trust({ publicKey: new Uint8Array(32).fill(2), nodeId: 'other', name: 'Alpha' });
  t.throws(() => gate.check(PEER, ORIGIN), { code: 'ERR_PEER_KEY_CHANGED' });
  t.throws(() => gate.admit(PEER, ORIGIN, () => undefined), { code: 'ERR_PEER_KEY_CHANGED' });
  t.match(lines[0], /REFUSED/);
  t.same(consent.list(), []);
});

t.test("a name that became another's while a human thought is refused", async (t) => {
  for (const answer of ['once', 'trust'] as const) {
    const { trust, consent, gate } = setUp(t);
    const seen: (MemcloudError | undefined)[] = [];
    gate.admit(PEER, ORIGIN, (refusal) => seen.push(refusal));
    trust.trust({ publicKey: new Uint8Array(32).fill(2), nodeId: 'other', name: 'alpha' });
    consent.answer(consent.list()[0]!.id, answer);
    t.match(seen, [{ code: 'ERR_PEER_KEY_CHANGED' }]);
  }
});

t.test('the question can be taken back', async (t) => {
  const { consent, gate } = setUp(t);
  const seen: (MemcloudError | undefined)[] = [];
  const cancel = gate.admit(PEER, ORIGIN, (refusal) => seen.push(refusal));
  t.type(cancel, 'function');
  if (typeof cancel === 'function') cancel();
  t.same(consent.list(), []);
  t.match(seen, [{ code: 'ERR_PEER_UNTRUSTED' }]);
});
