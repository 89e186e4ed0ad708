import t from 'tap';
import { ConsentQueue, type ConsentOutcome } from '../../peer/consent.ts';
import type { PeerIdentity } from '../../peer/credentials.ts';
import { fingerprintOf, nodeIdOf } from '../../common/fingerprint.ts';

function peer(index: number): PeerIdentity {
  const publicKey = new Uint8Array(32);
  new DataView(publicKey.buffer).setUint32(0, index);
  return { publicKey, nodeId: nodeIdOf(publicKey), name: `node-${index}` };
}
const full = { code: 'ERR_PEER_UNTRUSTED' };
const nothing = (): void => undefined;

function queue(
  t: { teardown(fn: () => void): void },
  ttlMs = 60_000,
): { consent: ConsentQueue; time: { nowMs: number } } {
  const time = { nowMs: 0 };
  const consent = new ConsentQueue({ clock: { nowMs: () => time.nowMs }, ttlMs });
  t.teardown(() => consent.close());
  return { consent, time };
}

t.test('a request is listed with all that a human needs, and answered once', async (t) => {
  const { consent, time } = queue(t);
  const outcomes: ConsentOutcome[] = [];
  let changes = 0;
  consent.onChange(() => (changes += 1));
  const id = consent.ask(peer(1), { address: '10.0.0.2:7070', dialled: false }, (outcome) =>
    outcomes.push(outcome),
  );
  time.nowMs = 15_000;
  t.same(consent.list(), [
    {
      id,
      nodeId: peer(1).nodeId,
      publicKey: `00000001${'00'.repeat(28)}`,
      name: 'node-1',
      address: '10.0.0.2:7070',
      dialled: false,
      expiresInMs: 45_000,
    },
  ]);
  consent.answer(id, 'once');
  t.same(outcomes, ['once']);
  t.same(consent.list(), []);
  t.equal(changes, 2);
  t.throws(() => consent.answer(id, 'trust'), { code: 'ERR_PEER_UNKNOWN' });
  consent.cancel(id);
  t.same(outcomes, ['once']);
});

t.test('an answer given at once is not lost', async (t) => {
  const { consent } = queue(t);
  consent.onChange(() => {
    for (const { id } of consent.list()) consent.answer(id, 'trust');
  });
  const outcome = await new Promise((resolve) => {
    consent.ask(peer(1), { address: '10.0.0.2:1', dialled: false }, resolve);
  });
  t.equal(outcome, 'trust');
});

t.test('a request dies with its connection and by time', async (t) => {
  const { consent } = queue(t, 20);
  const outcomes: ConsentOutcome[] = [];
  const id = consent.ask(peer(1), { address: '10.0.0.2:1', dialled: false }, (o) =>
    outcomes.push(o),
  );
  consent.cancel(id);
  t.same(outcomes, ['cancelled']);
  const outcome = await new Promise((resolve) => {
    consent.ask(peer(2), { address: '10.0.0.2:1', dialled: false }, resolve);
  });
  t.equal(outcome, 'expired');
  t.same(consent.list(), []);
});

t.test('16 requests wait, the 17th is refused until one is answered', async (t) => {
  const { consent } = queue(t);
  for (let index = 0; index < 16; index += 1) {
    consent.ask(peer(index), { address: `10.0.0.${index}:1`, dialled: false }, nothing);
  }
  const more = (): string =>
    consent.ask(peer(99), { address: '10.1.0.1:1', dialled: false }, nothing);
  t.throws(more, full);
  consent.answer(consent.list()[3]!.id, 'deny');
  t.doesNotThrow(more);
});

t.test('a key waits once', async (t) => {
  const { consent } = queue(t);
  const ask = (): string =>
    consent.ask(peer(1), { address: '10.0.0.2:1', dialled: false }, nothing);
  const id = ask();
  t.throws(ask, full);
  consent.cancel(id);
  t.doesNotThrow(ask);
});

t.test('an address asks 6 times a minute, whatever its keys and ports', async (t) => {
  const { consent, time } = queue(t);
  let index = 0;
  const ask = (host = '10.0.0.2'): void => {
    index += 1;
    const address = `${host}:${40000 + index}`;
    consent.cancel(consent.ask(peer(index), { address, dialled: false }, nothing));
  };
  for (let count = 0; count < 6; count += 1) ask();
  t.throws(() => ask(), full);
  t.doesNotThrow(() => ask('10.0.0.3'), 'others may');
  time.nowMs = 59_999;
  t.throws(() => ask(), full);
  time.nowMs = 60_001;
  t.doesNotThrow(() => ask());
});

t.test('what we dial ourselves has no rate', async (t) => {
  const { consent } = queue(t);
  for (let index = 0; index < 20; index += 1) {
    consent.cancel(consent.ask(peer(index), { address: '10.0.0.2:1', dialled: true }, nothing));
  }
  t.pass();
});

t.test('close cancels everything', async (t) => {
  const { consent } = queue(t);
  const outcomes: ConsentOutcome[] = [];
  for (let index = 0; index < 3; index += 1) {
    consent.ask(peer(index), { address: '10.0.0.2:1', dialled: true }, (o) => outcomes.push(o));
  }
  consent.close();
  t.same(outcomes, ['cancelled', 'cancelled', 'cancelled']);
});

t.test('a request is answered by its id, by words, node id, key or name', async (t) => {
  const { consent } = queue(t);
  const { nodeId, publicKey, name } = peer(1);
  const words = fingerprintOf(nodeId);
  const key = Buffer.from(publicKey).toString('hex');
  for (const which of [words, words.replaceAll('-', ' '), nodeId, key, name.toUpperCase()]) {
    const outcomes: ConsentOutcome[] = [];
    consent.ask(peer(1), { address: '10.0.0.2:1', dialled: true }, (o) => outcomes.push(o));
    consent.answer(which, 'deny');
    t.same(outcomes, ['deny'], which);
  }
});

t.test('a stranger that claims the words or the name of another is not taken for it', async (t) => {
  const { consent } = queue(t);
  const victim = peer(1);
  const words = fingerprintOf(victim.nodeId).slice(0, 64);
  const from = { address: '10.0.0.2:1', dialled: true };
  const outcomes: string[] = [];
  consent.ask({ ...peer(2), name: words }, from, (o) => outcomes.push(`impostor ${o}`));
  t.throws(() => consent.answer(words, 'trust'), { code: 'ERR_PEER_UNKNOWN' });
  consent.ask(victim, from, (o) => outcomes.push(`victim ${o}`));
  consent.answer(words, 'trust');
  t.same(outcomes, ['victim trust']);
  consent.ask({ ...peer(3), name: victim.name }, from, nothing);
  consent.ask(victim, from, nothing);
  t.throws(() => consent.answer(victim.name, 'trust'), { code: 'ERR_USAGE' }, 'two claim it');
});

t.test(
  'a flood of 500 strangers leaves 16 requests, which all can be answered (W10)',
  async (t) => {
    const { consent } = queue(t);
    const outcomes: ConsentOutcome[] = [];
    let refused = 0;
    for (let index = 0; index < 500; index += 1) {
      const from = { address: `10.0.${index >> 8}.${index & 255}:1`, dialled: false };
      try {
        consent.ask(peer(index), from, (outcome) => outcomes.push(outcome));
      } catch {
        refused += 1;
      }
    }
    t.equal(refused, 484);
    for (const { id } of consent.list()) consent.answer(id, 'once');
    t.same(outcomes, Array(16).fill('once'), 'no answer is lost among the many');
    t.doesNotThrow(() =>
      consent.ask(peer(900), { address: '10.9.9.9:1', dialled: false }, nothing),
    );
  },
);
