import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { PeerIdentity } from '../../peer/credentials.ts';
import { fingerprintOf, nodeIdOf } from '../../common/fingerprint.ts';
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
const WORDS = 'abandon-abandon-abandon-abandon-abandon-abandon-abandon-abandon';
const EXPECTED = { pattern: WORDS, name: '', addedAtMs: 1 };
const newer = (parts: object): string =>
  JSON.stringify({
    ...{ format: 'memcloud-trust/2', peers: [ROW], expected: [], revocations: [] },
    ...parts,
  });
const DAMAGED: Record<string, string> = {
  'no JSON': '{',
  'another format': JSON.stringify({ format: 'memcloud-trust/3', peers: [] }),
  'no patterns': JSON.stringify({ format: 'memcloud-trust/2', peers: [], revocations: [] }),
  'a pattern that is none': newer({ expected: [{ ...EXPECTED, pattern: 'abandon ability' }] }),
  'a pattern by a name with an escape': newer({ expected: [{ ...EXPECTED, name: '\u001b[2J' }] }),
  'a revocation of nobody': newer({ revocations: [{ nodeId: 'x', atMs: 1 }] }),
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

t.test('a store of the format before is read, and written anew with what it had', async (t) => {
  const directory = t.testdir({});
  const file = path.join(directory, TRUST_FILE_NAME);
  fs.writeFileSync(file, whole(ROW), { mode: 0o600 });
  const store = TrustStore.load(directory);
  t.match(store.list(), [ROW]);
  t.equal(fs.readFileSync(file, 'utf8'), whole(ROW), 'to read changes nothing');
  store.expect(WORDS, 'later');
  t.match(JSON.parse(fs.readFileSync(file, 'utf8')), {
    format: 'memcloud-trust/2',
    peers: [ROW],
    expected: [{ pattern: WORDS, name: 'later' }],
    revocations: [],
  });
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  t.same(fs.readdirSync(directory), [TRUST_FILE_NAME], 'nothing half written is left');
  t.match(TrustStore.load(directory).expected, [{ pattern: WORDS, name: 'later' }]);
});

const NAMINGS: Record<string, (known: PeerIdentity) => string> = {
  words: ({ nodeId }) => fingerprintOf(nodeId).replaceAll('-', ' ').toUpperCase(),
  'node id': ({ nodeId }) => nodeId,
  key: ({ publicKey }) => Buffer.from(publicKey).toString('hex'),
};
for (const [how, naming] of Object.entries(NAMINGS)) {
  t.test(`a key named by its ${how} is trusted when it comes, and no other is`, async (t) => {
    for (const configured of [false, true]) {
      const text = naming(peer(1, 'alpha'));
      const store = TrustStore.inMemory(configured ? { fingerprints: [text] } : {});
      if (!configured) store.expect(text);
      t.equal(store.check(peer(2, 'alpha')), 'unknown');
      t.same(store.list(), []);
      t.equal(store.check(peer(1, 'alpha')), 'trusted');
      t.same(store.expected, [], 'it came');
      t.throws(() => store.check(peer(2, 'alpha')), changed, 'its name is its own from then on');
    }
  });
}

t.test('a named key does not get the name of a friend', async (t) => {
  const store = TrustStore.inMemory();
  store.trust(peer(1, 'alpha'));
  store.expect(peer(2, '').nodeId);
  t.throws(() => store.check(peer(2, 'alpha')), changed);
  t.equal(store.check(peer(2, 'beta')), 'trusted');
});

t.test(
  'a denied key stays denied whatever the configuration names; add changes that',
  async (t) => {
    const { nodeId } = peer(1, 'alpha');
    const store = TrustStore.inMemory({ fingerprints: [nodeId] });
    store.deny(peer(1, 'alpha'));
    t.equal(store.check(peer(1, 'alpha')), 'denied');
    t.same(store.configuredFor('alpha'), [nodeId], 'and it is known what would let it in');
    store.expect(nodeId);
    t.equal(store.check(peer(1, 'alpha')), 'trusted');
  },
);

t.test('to forget or deny a key ends what was expected of it', async (t) => {
  const store = TrustStore.inMemory();
  store.expect(peer(1, '').nodeId, 'later');
  store.remove('later');
  t.equal(store.check(peer(1, 'alpha')), 'unknown');
  store.expect(peer(1, '').nodeId);
  store.deny(peer(1, 'alpha'));
  store.remove('alpha');
  t.equal(store.check(peer(1, 'alpha')), 'unknown', 'it is a stranger');
});

t.test('a whole key with a name is trusted before it comes', async (t) => {
  const store = TrustStore.inMemory();
  store.expect('01'.repeat(32), 'alpha');
  t.match(store.list(), [{ name: 'alpha', decision: 'trusted', nodeId: peer(1, '').nodeId }]);
  t.throws(() => store.expect('02'.repeat(32), 'Alpha'), changed);
});

t.test('who calls itself by the words of another is not taken for it', async (t) => {
  const store = TrustStore.inMemory();
  const victim = peer(1, 'alpha');
  const words = fingerprintOf(victim.nodeId);
  store.trust(peer(2, words));
  t.throws(() => store.remove(words), { code: 'ERR_PEER_UNKNOWN' });
  store.trust(victim);
  t.match(store.remove(words), { name: 'alpha' });
  t.equal(store.check(peer(2, words)), 'trusted');
});

t.test(
  'what loses its trust is remembered for other nodes, until it is trusted again',
  async (t) => {
    const directory = t.testdir({});
    const store = TrustStore.load(directory, { wallClockMs: () => 77 });
    let changes = 0;
    store.onRevocationsChanged(() => (changes += 1));
    store.deny(peer(9, 'stranger'));
    t.same(store.revocations, [], 'a stranger had no trust to lose');
    store.trust(peer(1, 'alpha'));
    store.trust(peer(2, 'beta'));
    store.remove('alpha');
    store.deny(peer(2, 'beta'));
    const gone = [1, 2].map((fill) => ({ nodeId: peer(fill, '').nodeId, atMs: 77 }));
    t.same(TrustStore.load(directory).revocations, gone);
    store.trust(peer(1, 'alpha'));
    t.same(store.revocations, gone.slice(1));
    t.equal(changes, 3);
    for (let fill = 10; fill < 80; fill += 1) {
      store.trust(peer(fill, `n${fill}`));
      store.remove(`n${fill}`);
    }
    t.equal(store.revocations.length, 64, 'the newest 64');
  },
);

t.test('64 keys may be expected', async (t) => {
  const store = TrustStore.inMemory();
  for (let fill = 0; fill < 64; fill += 1) store.expect(peer(fill, '').nodeId);
  t.throws(() => store.expect(peer(99, '').nodeId), { code: 'ERR_PEER_UNTRUSTED' });
  t.doesNotThrow(() => store.expect(peer(0, '').nodeId, 'named'), 'the same one again');
  t.throws(() => store.expect('no such words'), { code: 'ERR_USAGE' });
  t.throws(() => store.expect(peer(1, '').nodeId, 'a\u001b[2J'), { code: 'ERR_USAGE' });
});
