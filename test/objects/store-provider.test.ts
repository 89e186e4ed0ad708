/** The store on the provider's own memory: files on tmpfs, a shared ledger, RAM that goes back; and what a record costs. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { ObjectStore } from '../../objects/store.ts';
import { RamProvider } from '../../provider/service.ts';
import { ANNA, BERT, HOLDER, key } from '../helpers/object-rig.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;

function open(t: Test, offeredBytes: number) {
  const provider = RamProvider.open({
    offeredBytes,
    directory: tmpfsBase(t),
    noswap: 'off',
    allowedBytes: () => offeredBytes,
    reserveBytes: 0,
  });
  const clock = { nowMs: () => performance.now() };
  const store = new ObjectStore({
    nodeId: HOLDER,
    memory: provider.openObjectMemory(),
    clock,
    random: Math.random,
  });
  t.teardown(() => {
    store.close();
    provider.close();
  });
  return { provider, store, anna: store.openHolder(ANNA), bert: store.openHolder(BERT) };
}

t.test('objects take RAM of the provider, in its ledger, and give it back', async (t) => {
  const { provider, store, anna, bert } = open(t, 64 * MIB);
  const value = Buffer.alloc(4000, 'v');
  for (let index = 0; index < 5000; index += 1) anna.put(`k${index}`, value, {});
  t.equal(provider.usage().usedBytes, store.usage().chargedBytes);
  t.equal(provider.usedBy(ANNA), store.usageOf(ANNA).chargedBytes);
  t.equal(provider.usage().residentBytes, store.residentBytes);
  t.ok(store.residentBytes >= 5000 * 4096);
  for (let index = 0; index < 5000; index += 97) {
    const bytes = bert.get(key(`k${index}`), 0, 5000)?.bytes;
    if (bytes === undefined || !value.equals(bytes)) t.fail('the bytes that were put');
  }
  anna.flush();
  t.equal(provider.usage().usedBytes, 0);
  t.ok(provider.usage().residentBytes <= 8 * MIB, 'a stock of 8 MiB idles');
  store.tick(performance.now() + 20_000);
  t.equal(provider.usage().residentBytes, 0);
});

t.test(
  'a cache fills the offer and lives within it; pinned objects are refused at its end',
  async (t) => {
    const { provider, store, anna, bert } = open(t, 8 * MIB);
    const value = Buffer.alloc(10_000, 'v');
    for (let index = 0; index < 3000; index += 1) anna.put(undefined, value, { mode: 'cache' });
    t.ok(provider.usage().usedBytes <= 8 * MIB);
    t.ok(store.counters.evicted > 2000);
    let count = 0;
    const fill = (): void => {
      for (;;) {
        bert.put(undefined, value, {});
        count += 1;
      }
    };
    t.throws(fill, { code: 'ERR_LEASE_CAPACITY' });
    t.equal(count, Math.floor((8 * MIB) / (10_240 + 256)), 'the whole offer');
    t.equal(store.usageOf(ANNA).objectCount, 0);
  },
);

const PROGRAM = path.join(import.meta.dirname, '../helpers/record-heap/main.js');
/** The same objects then weigh the same in every run. */
const STEADY_HEAP = ['--expose-gc', '--single-threaded-gc', '--no-opt', '--no-flush-bytecode'];

t.test('the heap grows by less than what records are charged', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [...STEADY_HEAP, PROGRAM]);
  const lines = stdout.trim().split('\n');
  t.equal(lines.length, 6);
  for (const line of lines) {
    const { name, count, grownBytes, chargedBytes } = JSON.parse(line) as Record<string, number>;
    const of = (bytes = 0): string => (bytes / Number(count)).toFixed(0);
    const each = `${of(grownBytes)} B of ${of(chargedBytes)} B`;
    t.ok(Number(grownBytes) <= Number(chargedBytes), `${name}: ${each}`);
  }
});
