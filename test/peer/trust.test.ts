import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { PeerIdentity } from '../../peer/credentials.ts';
import { nodeIdOf } from '../../peer/identity.ts';
import { TRUST_FILE_NAME, TrustStore } from '../../peer/trust.ts';

function peer(fill: number, name: string): PeerIdentity {
  const publicKey = new Uint8Array(32).fill(fill);
  return { publicKey, nodeId: nodeIdOf(publicKey), name };
}
const changed = { code: 'ERR_PEER_KEY_CHANGED' };

t.test('a stranger is unknown, whatever the mode of the store but autoTrust', async (t) => {
  const store = TrustStore.inMemory();
  t.equal(store.check(peer(1, 'alpha')), 'unknown');
  t.equal(store.check(peer(1, 'alpha')), 'unknown', 'to ask does not trust');
  t.same(store.list(), []);
});

t.test('trust and denial are kept over a restart, mode 0600', async (t) => {
  const directory = t.testdir({});
  const store = TrustStore.load(directory, { wallClockMs: () => 1234 });
  store.trust(peer(1, 'alpha'));
  store.deny(peer(2, 'beta'));
  const again = TrustStore.load(directory);
  t.equal(again.check(peer(1, 'alpha')), 'trusted');
  t.equal(again.check(peer(2, 'beta')), 'denied');
  t.match(again.list(), [
    { publicKey: '01'.repeat(32), name: 'alpha', decision: 'trusted', decidedAtMs: 1234 },
    { publicKey: '02'.repeat(32), name: 'beta', decision: 'denied' },
  ]);
  t.equal(fs.statSync(path.join(directory, TRUST_FILE_NAME)).mode & 0o777, 0o600);
});

t.test('a known name with a new key is refused loudly, in every mode and case', async (t) => {
  for (const autoTrust of [false, true]) {
    const store = TrustStore.inMemory({ autoTrust });
    store.trust(peer(1, 'alpha'));
    t.throws(() => store.check(peer(2, 'alpha')), changed);
    t.throws(() => store.check(peer(2, 'ALPHA')), changed);
    t.throws(() => store.trust(peer(2, 'alpha')), changed, 'not even by a click on trust');
    t.equal(store.check(peer(1, 'alpha')), 'trusted', 'the friend is still one');
  }
});

t.test('a trusted key cannot take the name of another', async (t) => {
  const store = TrustStore.inMemory();
  store.trust(peer(1, 'alpha'));
  store.trust(peer(2, 'beta'));
  t.throws(() => store.check(peer(2, 'alpha')), changed);
});

t.test('a denied key cannot reserve a name', async (t) => {
  const store = TrustStore.inMemory();
  store.deny(peer(9, 'alpha'));
  t.equal(store.check(peer(1, 'alpha')), 'unknown');
  store.trust(peer(1, 'alpha'));
  t.equal(store.check(peer(9, 'alpha')), 'denied');
});

t.test('a trusted key may change to a free name', async (t) => {
  const store = TrustStore.inMemory();
  store.trust(peer(1, 'alpha'));
  t.equal(store.check(peer(1, 'gamma')), 'trusted');
  t.equal(store.list()[0]?.name, 'gamma');
  t.equal(store.check(peer(2, 'alpha')), 'unknown', 'the old name is free');
});

t.test('autoTrust trusts a first-seen key, never a denied one', async (t) => {
  const store = TrustStore.inMemory({ autoTrust: true });
  t.equal(store.check(peer(1, 'alpha')), 'trusted');
  t.equal(store.list().length, 1);
  store.deny(peer(2, 'beta'));
  t.equal(store.check(peer(2, 'beta')), 'denied');
});

t.test('remove goes by key, node id or name, and announces it', async (t) => {
  for (const by of ['publicKey', 'nodeId', 'name'] as const) {
    const store = TrustStore.inMemory();
    store.trust(peer(1, 'alpha'));
    store.trust(peer(2, 'beta'));
    const gone: string[] = [];
    store.onRevoked(({ name }) => gone.push(name));
    store.remove(store.list()[0]![by].toUpperCase());
    t.same(gone, ['alpha']);
    t.equal(store.check(peer(1, 'alpha')), 'unknown');
    t.throws(() => store.remove('alpha'), { code: 'ERR_PEER_UNKNOWN' });
  }
});

t.test('deny of a trusted key announces it once, and a listener can leave', async (t) => {
  const store = TrustStore.inMemory();
  store.trust(peer(1, 'alpha'));
  let count = 0;
  const stop = store.onRevoked(() => (count += 1));
  store.deny(peer(1, 'alpha'));
  store.deny(peer(1, 'alpha'));
  t.equal(count, 1);
  stop();
  store.remove('alpha');
  t.equal(count, 1);
});

t.test('the store holds 4096 keys and no more', async (t) => {
  const store = TrustStore.inMemory({ autoTrust: true });
  for (let index = 0; index < 4096; index += 1) {
    const publicKey = new Uint8Array(32);
    new DataView(publicKey.buffer).setUint32(0, index);
    store.check({ publicKey, nodeId: String(index), name: `n${index}` });
  }
  t.throws(() => store.check(peer(255, 'last')), { code: 'ERR_PEER_UNTRUSTED' });
  t.equal(store.list().length, 4096);
});

const ROW = { publicKey: 'ab'.repeat(32), name: 'alpha', decision: 'trusted', decidedAtMs: 1 };
const whole = (...peers: unknown[]): string =>
  JSON.stringify({ format: 'memcloud-trust/1', peers });
const DAMAGED: Record<string, string> = {
  'no JSON': '{',
  'another format': JSON.stringify({ format: 'memcloud-trust/2', peers: [] }),
  'no list': JSON.stringify({ format: 'memcloud-trust/1' }),
  'a null row': whole(null),
  'a short key': whole({ ...ROW, publicKey: 'ab' }),
  'a name with an escape': whole({ ...ROW, name: 'a\u001b[2J' }),
  'another decision': whole({ ...ROW, decision: 'maybe' }),
  'a time that is none': whole({ ...ROW, decidedAtMs: null }),
  'two trusted keys of one name': whole(ROW, { ...ROW, publicKey: 'cd'.repeat(32), name: 'ALPHA' }),
};
for (const [name, text] of Object.entries(DAMAGED)) {
  t.test(`a store with ${name} is refused and kept`, async (t) => {
    const file = path.join(t.testdir({}), TRUST_FILE_NAME);
    fs.writeFileSync(file, text, { mode: 0o600 });
    t.throws(() => TrustStore.load(path.dirname(file)), { code: 'ERR_IDENTITY' });
    t.equal(fs.readFileSync(file, 'utf8'), text);
  });
}

t.test('a store that others may write is refused', async (t) => {
  const file = path.join(t.testdir({}), TRUST_FILE_NAME);
  fs.writeFileSync(file, whole(ROW), { mode: 0o600 });
  t.equal(TrustStore.load(path.dirname(file)).list().length, 1);
  fs.chmodSync(file, 0o622);
  t.throws(() => TrustStore.load(path.dirname(file)), { code: 'ERR_IDENTITY' });
});
