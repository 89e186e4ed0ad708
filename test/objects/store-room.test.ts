/** Who goes when room is short: over before cached, one's own before others', the richest, never the pinned. */
import t from 'tap';
import type { LocalHolder } from '../../objects/holder.ts';
import { ANNA, BERT, key, openStore as open } from '../helpers/object-rig.ts';

/** What an object of 1000 bytes with a name of three characters is charged: a slot of 1 KiB and the rest. */
const CHARGE = 1024 + 256 + 3;
const VALUE = Buffer.alloc(1000, 'v');
const CACHE = { mode: 'cache' } as const;

function fill(holder: LocalHolder, letter: string, count: number, options = {}): void {
  for (let index = 0; index < count; index += 1) {
    holder.put(`${letter}${String(index).padStart(2, '0')}`, VALUE, { ...CACHE, ...options });
  }
}

function names(holder: LocalHolder, letter: string): string {
  const { objects } = holder.list({ patterns: [`${letter}*`] });
  return objects.map(({ name }) => (name.kind === 'key' ? name.key : '')).join(' ');
}

t.test('an allowance that is used up costs its owner, and nobody else', async (t) => {
  const { anna, bert, memory, store } = open(t);
  memory.allowedBytes = 4 * CHARGE;
  fill(anna, 'a', 4);
  fill(bert, 'b', 4);
  anna.put('pin', VALUE, {});
  anna.put('new', VALUE, CACHE);
  t.equal(names(anna, 'a'), 'a02 a03', 'the oldest of its own went');
  t.equal(names(bert, 'b'), 'b00 b01 b02 b03');
  t.equal(store.usageOf(ANNA).evictedCount, 2);
  t.equal(store.usageOf(BERT).evictedCount, 0);
  t.equal(store.usage().evictedCount, 2);
});

t.test('what was read stays before what was not', async (t) => {
  const { anna, memory } = open(t);
  memory.allowedBytes = 4 * CHARGE;
  fill(anna, 'a', 4);
  anna.get(key('a00'), 0, 1);
  anna.put('new', VALUE, CACHE);
  t.equal(names(anna, 'a'), 'a00 a02 a03');
});

t.test('room of the provider comes from the owner whose cache takes most', async (t) => {
  const { anna, bert, memory } = open(t);
  memory.offeredBytes = 10 * CHARGE;
  fill(anna, 'a', 3);
  fill(bert, 'b', 7);
  anna.put('new', VALUE, {});
  anna.put('neu', VALUE, {});
  t.equal(names(anna, 'a'), 'a00 a01 a02');
  t.equal(names(bert, 'b'), 'b02 b03 b04 b05 b06');
});

t.test('a write that cannot fit evicts nothing, also when it comes in pieces', async (t) => {
  const { anna, bert, memory, store } = open(t);
  memory.allowedBytes = 4 * CHARGE;
  fill(anna, 'a', 3);
  fill(bert, 'b', 3);
  const tooMuch = Buffer.alloc(5 * CHARGE);
  t.throws(() => anna.put('big', tooMuch, CACHE), { code: 'ERR_LEASE_CAPACITY' });
  t.throws(() => anna.begin('big', CACHE, tooMuch.length), { code: 'ERR_LEASE_CAPACITY' });
  memory.allowedBytes = Infinity;
  memory.offeredBytes = 6 * CHARGE;
  t.throws(() => anna.put('big', Buffer.alloc(7 * CHARGE), {}), { code: 'ERR_LEASE_CAPACITY' });
  t.equal(store.counters.evicted, 0);
  memory.accepting = false;
  t.throws(() => anna.put('new', VALUE, CACHE), { code: 'ERR_LEASE_CAPACITY' });
  t.equal(store.counters.evicted, 0, 'nor for a node that takes nothing');
  anna.put('a00', VALUE.subarray(1), CACHE);
  t.equal(anna.stat(key('a00'))?.sizeBytes, 999, 'what needs no room is taken all the same');
});

t.test('an object that is being replaced is not evicted for itself', async (t) => {
  const { anna, memory, store } = open(t);
  memory.allowedBytes = 3 * CHARGE;
  fill(anna, 'a', 2);
  anna.put('a00', Buffer.alloc(3000, 'w'), CACHE);
  t.equal(names(anna, 'a'), 'a00', 'the other one went');
  t.throws(() => anna.put('a00', Buffer.alloc(5000), CACHE), { code: 'ERR_LEASE_CAPACITY' });
  t.equal(anna.get(key('a00'), 0, 1)?.bytes.toString(), 'w', 'and it is still the old one');
  t.equal(store.counters.evicted, 1);
});

t.test('what is over goes before anything is evicted', async (t) => {
  const { anna, memory, store, time } = open(t);
  memory.allowedBytes = 4 * CHARGE;
  fill(anna, 'a', 3);
  anna.put('old', VALUE, { ttlMs: 10 });
  time.nowMs += 10;
  anna.put('new', VALUE, {});
  t.equal(store.counters.evicted, 0);
  t.equal(store.counters.expired, 1);
});

t.test('pressure takes cached objects until enough is back, and no pinned one', async (t) => {
  const { anna, bert, memory, store } = open(t);
  fill(anna, 'a', 20);
  fill(bert, 'b', 10);
  bert.put('pin', VALUE, {});
  const before = memory.chargedBytes;
  const given = memory.press(5 * CHARGE - 1);
  t.equal(given, 5 * CHARGE);
  t.equal(before - memory.chargedBytes, given);
  t.equal(memory.press(10 ** 9), 25 * CHARGE, 'as many as there are');
  t.equal(store.usage().objectCount, 1);
  t.equal(memory.pageCount, 1, 'and their pages are back');
  t.equal(memory.press(1), 0);
});

t.test('a cache much smaller than what passes through it keeps what is asked for', async (t) => {
  const { anna, memory, store } = open(t);
  memory.allowedBytes = 100 * CHARGE;
  for (let round = 0; round < 2000; round += 1) {
    const name = `h${String(round % 20).padStart(2, '0')}`;
    if (anna.get(key(name), 0, 1) === undefined) anna.put(name, VALUE, CACHE);
    for (let scan = 0; scan < 3; scan += 1) anna.put(undefined, VALUE, CACHE);
  }
  const { hit, miss } = store.counters;
  t.ok(hit / (hit + miss) > 0.95, `${hit} of ${hit + miss} reads hit while 6000 blocks passed`);
});

t.test('one write takes as many victims as it needs, be they thousands', async (t) => {
  const { anna, memory, store } = open(t);
  const small = VALUE.subarray(0, 60);
  for (let index = 0; index < 20_000; index += 1) anna.put(`s${index}`, small, CACHE);
  memory.offeredBytes = memory.chargedBytes;
  anna.put('big', Buffer.alloc(40_000, 'b'), {});
  t.ok(store.counters.evicted > 100, `${store.counters.evicted} objects went`);
  t.equal(anna.get(key('big'), 39_999, 1)?.bytes.toString(), 'b');
  const upload = anna.begin('stream', {}, 3 * 2 ** 20);
  for (let at = 0; at < 3 * 2 ** 20; at += 2 ** 15) anna.append(upload, at, Buffer.alloc(2 ** 15));
  t.equal(anna.commit(upload).sizeBytes, 3 * 2 ** 20);
  t.ok(store.counters.evicted > 8000, `${store.counters.evicted} objects went`);
  t.equal(store.usage().objectCount, 20_002 - store.counters.evicted);
});

t.test('what was evicted is neither listed nor found under its name', async (t) => {
  const { anna, memory, store } = open(t);
  memory.allowedBytes = 10 * CHARGE;
  fill(anna, 'a', 99);
  const listed = new Set(names(anna, 'a').split(' '));
  t.equal(listed.size, 10);
  t.equal(store.counters.evicted, 89);
  for (let index = 0; index < 99; index += 1) {
    const name = `a${String(index).padStart(2, '0')}`;
    t.equal(anna.get(key(name), 0, 1) !== undefined, listed.has(name), name);
  }
});
