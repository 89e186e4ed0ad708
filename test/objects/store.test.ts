/** The store as its callers see it: bytes, versions, rights, modes, times, uploads. */
import t from 'tap';
import type { ObjectInfo } from '../../common/objects.ts';
import { ANNA, CARL, HOLDER, key, openStore as open } from '../helpers/object-rig.ts';

const KIB = 1024;
const MIB = 2 ** 20;
const NONE = Buffer.alloc(0);

const idOf = (info: ObjectInfo): string => (info.name.kind === 'block' ? info.name.id : 'none');

t.test('what was put comes back, whole and in ranges', async (t) => {
  const { anna, bert } = open(t);
  const value = Buffer.from('the quick brown fox');
  const info = anna.put('animals/fox', value, { meta: Buffer.from('text') });
  t.strictSame(info, {
    name: key('animals/fox'),
    holder: HOLDER,
    owner: ANNA,
    sizeBytes: 19,
    version: 1,
    mode: 'pinned',
    readers: 'trusted',
    expiresInMs: null,
    meta: Buffer.from('text'),
  });
  for (const reader of [anna, bert]) {
    t.strictSame(reader.get(key('animals/fox'), 0, 1000)?.bytes, value);
    t.strictSame(reader.get(key('animals/fox'), 4, 5)?.bytes, Buffer.from('quick'));
    t.strictSame(reader.get(key('animals/fox'), 16, 99)?.bytes, Buffer.from('fox'));
    t.equal(reader.get(key('animals/fox'), 19, 5)?.bytes.length, 0, 'behind the end is nothing');
    t.equal(reader.get(key('animals/fox'), 2 ** 52, 5)?.bytes.length, 0);
    t.strictSame(reader.stat(key('animals/fox')), info);
  }
  t.equal(anna.get(key('animals/cat'), 0, 10), undefined);
  t.equal(anna.delete(key('animals/fox')), true);
  t.equal(anna.delete(key('animals/fox')), false);
  t.equal(anna.get(key('animals/fox'), 0, 10), undefined);
});

t.test('a block has an id that says who holds it', async (t) => {
  const { anna, bert } = open(t);
  const info = anna.put(undefined, Buffer.from('block'), {});
  const id = idOf(info);
  t.equal(BigInt(id) >> 40n, 0xabcdefn);
  t.equal(bert.get({ kind: 'block', id }, 0, 10)?.bytes.toString(), 'block');
  t.equal(anna.stat({ kind: 'block', id: '17' }), undefined, 'a block of another holder is a miss');
  t.throws(() => anna.stat({ kind: 'block', id: '18446744073709551616' }), { code: 'ERR_USAGE' });
  t.equal(anna.delete({ kind: 'block', id }), true);
});

t.test('an upload is seen when it is committed, and never in part', async (t) => {
  const { anna, bert, store } = open(t);
  anna.put('log', Buffer.from('old'), {});
  const value = Buffer.alloc(300 * KIB, 'streams are chunked ');
  const upload = anna.begin('log', {}, value.length);
  for (let at = 0; at < value.length; at += 48 * KIB) {
    anna.append(upload, at, value.subarray(at, at + 48 * KIB));
    t.equal(bert.get(key('log'), 0, 100)?.bytes.toString(), 'old');
  }
  t.throws(() => anna.append(upload, 7, Buffer.from('x')), { code: 'ERR_USAGE' });
  t.throws(() => bert.append(upload, value.length, Buffer.from('x')), {
    code: 'ERR_OBJECT_UNKNOWN',
  });
  t.equal(store.usage().uploadCount, 1);
  const info = anna.commit(upload);
  t.equal(info.version, 2);
  t.equal(info.sizeBytes, value.length);
  t.throws(() => bert.get(key('log'), 1, 1, 1), { code: 'ERR_OBJECT_CONFLICT' });
  const read: Buffer[] = [];
  for (let at = 0; at < value.length; at += 48 * KIB) {
    read.push(Buffer.from(bert.get(key('log'), at, MIB, 2)!.bytes));
  }
  t.ok(Buffer.concat(read).equals(value));
  t.throws(() => anna.commit(upload), { code: 'ERR_OBJECT_UNKNOWN' });
});

t.test('only the owner changes an object; what one may not read is not there', async (t) => {
  const { anna, bert, carl } = open(t, (node) => node !== CARL);
  anna.put('private', Buffer.from('1'), { readers: 'private' });
  anna.put('trusted', Buffer.from('2'), {});
  anna.put('for carl', Buffer.from('3'), { readers: [CARL] });
  const sees = (holder: typeof anna): string[] =>
    holder.list({}).objects.map(({ name }) => (name.kind === 'key' ? name.key : ''));
  t.strictSame(sees(anna), ['for carl', 'private', 'trusted']);
  t.strictSame(sees(bert), ['trusted']);
  t.strictSame(sees(carl), ['for carl'], 'an untrusted node sees what names it');
  t.equal(bert.get(key('private'), 0, 9), undefined);
  t.equal(bert.stat(key('private')), undefined);
  t.equal(bert.delete(key('private')), false, 'a miss, not a refusal');
  t.throws(() => bert.delete(key('trusted')), { code: 'ERR_OBJECT_DENIED' });
  for (const name of ['private', 'trusted', 'for carl']) {
    t.throws(() => bert.put(name, Buffer.from('x'), {}), { code: 'ERR_OBJECT_DENIED' });
    t.throws(() => bert.begin(name, {}), { code: 'ERR_OBJECT_DENIED' });
  }
  t.equal(bert.flush().objectCount, 0, 'a flush takes only what is its own');
  bert.put('b', Buffer.from('bert'), {});
  t.match(anna.flush(), { objectCount: 3, valueBytes: 3 });
  t.equal(carl.get(key('for carl'), 0, 9), undefined);
  t.equal(bert.get(key('b'), 0, 9)?.bytes.toString(), 'bert');
});

t.test('the name of a commit is checked when it is committed', async (t) => {
  const { anna, bert, store } = open(t);
  const upload = anna.begin('name', {});
  anna.append(upload, 0, Buffer.from('anna'));
  bert.put('name', Buffer.from('bert'), {});
  t.throws(() => anna.commit(upload), { code: 'ERR_OBJECT_DENIED' });
  t.equal(store.usageOf(ANNA).chargedBytes, 0, 'the room is back at once');
  t.equal(anna.get(key('name'), 0, 9)?.bytes.toString(), 'bert');
});

t.test('versions count writes of a name and do not go back when it was away', async (t) => {
  const { anna, time } = open(t);
  const put = (options = {}): number => anna.put('n', Buffer.from('v'), options).version;
  t.equal(put(), 1);
  t.equal(put({ ifVersion: 1 }), 2);
  t.throws(() => put({ ifVersion: 1 }), { code: 'ERR_OBJECT_CONFLICT' });
  t.throws(() => put({ ifVersion: 0 }), { code: 'ERR_OBJECT_CONFLICT' });
  t.throws(() => anna.delete(key('n'), 1), { code: 'ERR_OBJECT_CONFLICT' });
  t.equal(anna.delete(key('n'), 2), true);
  t.throws(() => put({ ifVersion: 2 }), { code: 'ERR_OBJECT_CONFLICT' });
  t.equal(put({ ifVersion: 0, ttlMs: 5 }), 3);
  time.nowMs += 5;
  t.equal(put(), 4, 'nor when its time was over');
  t.equal(anna.put('other', Buffer.from('v'), {}).version, 1);
});

t.test('what is over is a miss at once and is swept by the next tick', async (t) => {
  const { anna, time, store, memory } = open(t);
  anna.put('short', Buffer.alloc(100), { ttlMs: 1000 });
  anna.put('long', Buffer.alloc(100), { ttlMs: 2 ** 40 });
  t.equal(anna.stat(key('short'))?.expiresInMs, 1000);
  time.nowMs += 999.5;
  t.equal(anna.stat(key('short'))?.expiresInMs, 1);
  time.nowMs += 0.5;
  t.strictSame(
    anna.list({}).objects.map(({ name }) => name),
    [key('long')],
  );
  t.equal(store.usage().objectCount, 2, 'not swept yet');
  store.tick(time.nowMs);
  t.equal(store.usage().objectCount, 1);
  t.equal(memory.chargedBytes, 256 + 4 + 112);
  anna.put('short', Buffer.alloc(100), { ttlMs: 10 });
  time.nowMs += 10;
  t.equal(anna.get(key('short'), 0, 1), undefined);
  t.equal(store.counters.expired, 2);
  time.nowMs += 2 ** 41;
  store.tick(time.nowMs);
  t.equal(store.usage().objectCount, 0, 'however far the clock went');
});

t.test('many ends at once are swept in slices', async (t) => {
  const { anna, time, store } = open(t);
  for (let index = 0; index < 25_000; index += 1) anna.put(`k${index}`, NONE, { ttlMs: 10 });
  time.nowMs += 10;
  store.tick(time.nowMs);
  t.equal(store.usage().objectCount, 15_000);
  store.tick(time.nowMs);
  store.tick(time.nowMs);
  t.equal(store.usage().objectCount, 0);
});

t.test('an upload ends after a minute of silence, or with its node', async (t) => {
  const { anna, bert, time, store } = open(t);
  const first = anna.begin('a', {});
  anna.append(first, 0, Buffer.alloc(70_000).subarray(0, 40_000));
  const second = bert.begin(undefined, {});
  time.nowMs += 59_999;
  store.tick(time.nowMs);
  anna.append(first, 40_000, Buffer.alloc(40_000));
  time.nowMs += 1;
  store.tick(time.nowMs);
  t.throws(() => bert.append(second, 0, NONE), { code: 'ERR_OBJECT_UNKNOWN' });
  t.equal(store.usage().uploadCount, 1);
  t.equal(store.usage().chargedBytes, 256 + 1 + 65_536 + 16_384 + 256 + 2 * 8);
  store.dropUploads(ANNA);
  t.equal(store.usage().chargedBytes, 0);
  t.throws(() => anna.commit(first), { code: 'ERR_OBJECT_UNKNOWN' });
  anna.abort(first);
});

t.test(
  'open uploads are bounded for each node, and what cannot fit is refused at once',
  async (t) => {
    const { anna, bert, memory } = open(t);
    for (let count = 0; count < 256; count += 1) anna.begin(undefined, {});
    t.throws(() => anna.begin(undefined, {}), { code: 'ERR_LEASE_CAPACITY' });
    const upload = bert.begin('x', {});
    memory.allowedBytes = 90_000;
    t.throws(() => bert.begin('y', {}, 100_000), { code: 'ERR_LEASE_CAPACITY' });
    t.throws(() => bert.begin('y', {}, Number.MAX_SAFE_INTEGER), { code: 'ERR_LEASE_CAPACITY' });
    bert.append(upload, 0, Buffer.alloc(48 * KIB));
    t.throws(() => bert.append(upload, 48 * KIB, Buffer.alloc(48 * KIB)), {
      code: 'ERR_LEASE_CAPACITY',
    });
    t.equal(bert.commit(upload).sizeBytes, 48 * KIB, 'a refused piece changes nothing');
  },
);

t.test('keys and values of nothing are charged', async (t) => {
  const { anna, memory } = open(t);
  memory.allowedBytes = 10 * (256 + 1024);
  for (let index = 0; index < 10; index += 1) anna.put(String(index).repeat(1024), NONE, {});
  t.throws(() => anna.put('x', NONE, {}), { code: 'ERR_LEASE_CAPACITY' });
  t.throws(() => anna.put(undefined, NONE, {}), { code: 'ERR_LEASE_CAPACITY' });
  t.throws(() => anna.put('x'.repeat(1025), NONE, {}), { code: 'ERR_USAGE' });
  t.throws(() => anna.put('€'.repeat(342), NONE, {}), { code: 'ERR_USAGE' });
});

t.test('arguments out of their bounds change nothing', async (t) => {
  const { anna, store } = open(t);
  const wrong: (() => unknown)[] = [
    () => anna.put('', NONE, {}),
    () => anna.put('a\0b', NONE, {}),
    () => anna.put('\ud800', NONE, {}),
    () => anna.put('a', Buffer.alloc(48 * KIB + 1), {}),
    () => anna.put('a', NONE, { ttlMs: 0 }),
    () => anna.put('a', NONE, { ttlMs: 2 ** 40 + 1 }),
    () => anna.put('a', NONE, { ttlMs: NaN }),
    () => anna.put('a', NONE, { ifVersion: -1 }),
    () => anna.put('a', NONE, { meta: Buffer.alloc(257) }),
    () => anna.put('a', NONE, { readers: ['me'] }),
    () => anna.put('a', NONE, { readers: Array.from({ length: 65 }, () => ANNA) }),
    () => anna.get(key('a'), -1, 1),
    () => anna.get(key('a'), 0.5, 1),
    () => anna.get(key('a'), 0, Infinity),
    () => anna.get({ kind: 'block', id: '01' }, 0, 1),
    () => anna.list({ countMax: 0 }),
    () => anna.list({ countMax: 513 }),
    () => anna.list({ cursor: 'x' }),
    () => anna.list({ cursor: 'bx' }),
    () => anna.list({ patterns: Array.from({ length: 17 }, () => '*') }),
    () => anna.list({ patterns: ['*'.repeat(1025)] }),
    () => anna.list({ patterns: ['a', 'b', 'c'].map((letter) => letter.repeat(683)) }),
    () => anna.begin('a', {}, -1),
  ];
  for (const call of wrong) t.throws(call, { code: 'ERR_USAGE' }, String(call));
  t.equal(store.usage().chargedBytes, 0);
});

t.test('a node that lost its trust leaves nothing', async (t) => {
  const { anna, bert, store, memory } = open(t);
  for (let index = 0; index < 100; index += 1) anna.put(undefined, Buffer.alloc(100), {});
  anna.begin('u', {});
  bert.put('b', Buffer.from('b'), {});
  t.equal(store.deleteOwnedBy(ANNA).objectCount, 100);
  t.equal(memory.chargedTo(ANNA), 0);
  t.equal(store.usage().objectCount, 1);
});

t.test('one key overwritten 100 000 times leaves memory as it was', async (t) => {
  const { anna, memory, store } = open(t);
  const value = Buffer.alloc(2000, 'v');
  const overwrite = (count: number): void => {
    for (let index = 0; index < count; index += 1) {
      const options = index % 2 === 0 ? { mode: 'cache' as const } : { ttlMs: 10_000 };
      anna.put('one', value.subarray(0, 900 + (index % 1100)), options);
    }
  };
  overwrite(10_000);
  const before = process.memoryUsage().arrayBuffers;
  overwrite(100_000);
  t.equal(store.usage().objectCount, 1);
  t.ok(memory.pageCount <= 2048 + 8, `${memory.pageCount} pages`);
  t.ok(memory.chargedBytes <= 256 + 3 + 2048);
  t.ok(process.memoryUsage().arrayBuffers - before < 50 * MIB);
  t.equal(anna.stat(key('one'))?.version, 110_000);
});

t.test('a time to live is told as it was given, whatever the clock shows', (t) => {
  const { anna, time } = open(t);
  for (let index = 0; index < 20_000; index += 1) {
    time.nowMs += 1.000_037;
    const { expiresInMs } = anna.put('k', Buffer.alloc(0), { ttlMs: 60_000 });
    if (expiresInMs !== 60_000) t.equal(expiresInMs, 60_000, `at ${time.nowMs}`);
  }
  t.end();
});
