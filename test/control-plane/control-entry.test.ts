import fs from 'node:fs';
import path from 'node:path';
import { tmpdir } from 'node:os';
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { silentLogger } from '../../common/log.ts';
import { ControlEntry } from '../../control-plane/control-entry.ts';
import { openLmdbStore } from '../../control-plane/lmdb-store.ts';
import type { MetaStore } from '../../control-plane/meta-store.ts';

const KEY = '/memcloud/v1/control/a';

async function setUp(t: Test): Promise<MetaStore> {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'mc-entry-'));
  t.teardown(() => {
    fs.rmSync(directory, { recursive: true, force: true });
  });
  const store = await openLmdbStore(directory);
  t.teardown(() => store.close());
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => {
    mock.timers.reset();
  });
  return store;
}

/** The value of the entry as soon as it is not `old`. */
async function changed(store: MetaStore, old: string | undefined): Promise<string | undefined> {
  for (;;) {
    const entry = await store.get(KEY);
    if (entry?.value !== old) return entry?.value;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

t.test('the entry says what is so, and goes with the node', async (t) => {
  const store = await setUp(t);
  let text = 'one';
  const entry = new ControlEntry({
    store,
    logger: silentLogger,
    key: KEY,
    value: () => text,
    ttlMs: 9000,
  });
  entry.start();
  t.equal(await changed(store, undefined), 'one');
  await new Promise((resolve) => setImmediate(resolve));
  text = 'two';
  mock.timers.tick(3000);
  t.equal(await changed(store, 'one'), 'two');
  await entry.close();
  t.equal(await store.get(KEY), undefined);
  mock.timers.tick(10_000);
  t.equal(await store.get(KEY), undefined);
});

t.test('a lease that is over is followed by another one', async (t) => {
  const store = await setUp(t);
  const leases: string[] = [];
  let alive = true;
  const shaky: MetaStore = Object.create(store, {
    grant: {
      value: async (ttlMs: number) => {
        const lease = await store.grant(ttlMs);
        leases.push(lease.id);
        return lease;
      },
    },
    get: { value: store.get.bind(store) },
    put: { value: store.put.bind(store) },
    revoke: { value: store.revoke.bind(store) },
    keepalive: { value: async () => alive },
  }) as MetaStore;
  const options = { store: shaky, logger: silentLogger, key: KEY, value: () => 'one', ttlMs: 9000 };
  const entry = new ControlEntry(options);
  entry.start();
  await changed(store, undefined);
  await new Promise((resolve) => setImmediate(resolve));
  await store.revoke({ id: leases[0]!, ttlMs: 9000 });
  t.equal(await store.get(KEY), undefined);
  alive = false;
  mock.timers.tick(3000);
  t.equal(await changed(store, undefined), 'one');
  t.equal(leases.length, 2);
  await entry.close();
  t.equal(await store.get(KEY), undefined);
});
