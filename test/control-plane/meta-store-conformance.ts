/**
 * What every store of a control plane must do: one suite, run on the embedded store and on a real etcd.
 * Each case has keys of its own, and is given a fresh way into the store.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type {
  MetaChange,
  MetaCompare,
  MetaEntry,
  MetaOp,
  MetaStore,
} from '../../control-plane/meta-store.ts';
import { openMetaStore } from '../../control-plane/open-store.ts';
import { Random } from '../helpers/fuzz.ts';

/** How the suite reaches a store. */
export interface StoreUnderTest {
  /** Opens it; the suite closes it. */
  readonly open: (t: Test) => Promise<MetaStore>;
}

/** Waits until `holds`, at most 20 s. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error('waited 20 s in vain');
    await delay(10);
  }
}

/** A watcher that keeps what it is told. */
export class Watched {
  readonly changes: MetaChange[] = [];
  lostCount = 0;

  onChanges(changes: readonly MetaChange[]): void {
    this.changes.push(...changes);
  }

  onLost(): void {
    this.lostCount += 1;
  }
}

const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };
let folderCount = 0;

/** Runs the suite. */
export function metaStoreConformance(t: Test, { open }: StoreUnderTest): void {
  const test = (
    name: string,
    body: (t: Test, store: MetaStore, folder: string) => Promise<void>,
  ): void => {
    t.test(name, async (t) => {
      const store = await open(t);
      t.teardown(() => store.close());
      folderCount += 1;
      await body(t, store, `/case-${folderCount}/`);
    });
  };

  test('an entry is what was put last, with the revision of that', async (t, store, folder) => {
    t.equal(await store.get(`${folder}a`), undefined);
    const first = await store.put(`${folder}a`, 'one');
    t.ok(first > 0);
    t.same(await store.get(`${folder}a`), { key: `${folder}a`, value: 'one', revision: first });
    const second = await store.put(`${folder}a`, '');
    t.ok(second > first);
    t.same(await store.get(`${folder}a`), { key: `${folder}a`, value: '', revision: second });
  });

  test('cas changes, makes and removes only at the revision named', async (t, store, folder) => {
    const key = `${folder}a`;
    const made = (await store.cas(key, 0, 'one'))!;
    t.ok(made > 0);
    t.equal(await store.cas(key, 0, 'two'), undefined, 'it is there');
    const changed = (await store.cas(key, made, 'two'))!;
    t.ok(changed > made);
    t.equal(await store.cas(key, made, 'three'), undefined, 'it is newer');
    t.equal(await store.cas(key, changed + 1, 'three'), undefined, 'it is older');
    t.equal(await store.cas(key, made, undefined), undefined);
    t.equal((await store.get(key))?.value, 'two');
    t.ok((await store.cas(key, changed, undefined))! > changed);
    t.equal(await store.get(key), undefined);
    t.equal(await store.cas(key, changed, 'four'), undefined, 'it is gone');
    t.ok(await store.cas(key, 0, 'four'), 'and can be made again');
  });

  test('a transaction is whole or nothing, under one revision', async (t, store, folder) => {
    const a = await store.put(`${folder}a`, '1');
    const b = await store.put(`${folder}b`, '1');
    const ops: MetaOp[] = [
      { put: `${folder}a`, value: '2' },
      { remove: `${folder}b` },
      { put: `${folder}c`, value: '2' },
      { remove: `${folder}never` },
    ];
    const refused = [{ key: `${folder}a`, revision: a }];
    t.equal(
      await store.transact([...refused, { key: `${folder}b`, revision: b + 1 }], ops),
      undefined,
    );
    t.equal(await store.transact([...refused, { key: `${folder}c`, revision: 1 }], ops), undefined);
    t.equal((await store.get(`${folder}a`))?.value, '1');
    const revision = await store.transact(
      [...refused, { key: `${folder}b`, revision: b }, { key: `${folder}c`, revision: 0 }],
      ops,
    );
    const { entries } = await store.list(folder);
    t.same(entries, [
      { key: `${folder}a`, value: '2', revision },
      { key: `${folder}c`, value: '2', revision },
    ]);
  });

  test('what changes nothing has no new revision', async (t, store, folder) => {
    const revision = await store.put(`${folder}a`, '1');
    t.equal(await store.transact([], []), revision);
    t.equal(await store.transact([], [{ remove: `${folder}b` }]), revision);
    t.equal(await store.cas(`${folder}b`, 0, undefined), revision);
    t.equal((await store.list(folder)).revision, revision);
  });

  test('100 at once count to 100', async (t, store, folder) => {
    const key = `${folder}count`;
    const add = async (): Promise<number> => {
      for (let lost = 0; ; lost += 1) {
        const entry = await store.get(key);
        const next = String(Number(entry?.value ?? 0) + 1);
        if ((await store.cas(key, entry?.revision ?? 0, next)) !== undefined) return lost;
      }
    };
    const lost = await Promise.all(Array.from({ length: 100 }, add));
    t.equal((await store.get(key))?.value, '100');
    t.comment(`${lost.reduce((sum, each) => sum + each, 0)} races were lost`);
  });

  test('of 100 that want to be first, one is', async (t, store, folder) => {
    const all = await Promise.all(
      Array.from({ length: 100 }, (_, index) => store.cas(`${folder}a`, 0, String(index))),
    );
    const winners = all.flatMap((revision, index) => (revision === undefined ? [] : [index]));
    t.equal(winners.length, 1);
    t.equal((await store.get(`${folder}a`))?.value, String(winners[0]));
  });

  test('listings are in the order of bytes, in pages, from either end', async (t, store, folder) => {
    // Of the same length in UTF-16 order, but not in UTF-8: U+FF61 is before U+10000 only there.
    const names = ['', 'A', 'a', 'a/', 'a/b', 'a0', 'b', 'é', '日本', '\uff61', '\u{10000}', 'a\0'];
    const keys = names.map((name) => `${folder}k${name}`);
    for (const key of keys) await store.put(key, key);
    const sorted = keys.toSorted((left, right) =>
      Buffer.compare(Buffer.from(left), Buffer.from(right)),
    );
    const names_ = async (...args: Parameters<MetaStore['list']>): Promise<string[]> =>
      (await store.list(...args)).entries.map(({ key }) => key);
    t.same(await names_(`${folder}k`), sorted);
    t.same(await names_(`${folder}k`, { reverse: true }), sorted.toReversed());
    for (const reverse of [false, true]) {
      const paged: string[] = [];
      for (;;) {
        const after = paged.at(-1);
        const page = await names_(folder, {
          countMax: 5,
          reverse,
          ...(after !== undefined && { after }),
        });
        paged.push(...page);
        if (page.length < 5) break;
      }
      t.same(paged, reverse ? sorted.toReversed() : sorted);
    }
    t.same(await names_(folder, { countMax: 0 }), []);
    t.same(await names_(`${folder}k`, { after: 'z' }), [], 'behind the prefix');
    t.same(await names_(`${folder}k`, { after: '!', reverse: true }), [], 'before the prefix');
    t.same(await names_(`${folder}k`, { after: '/' }), sorted, 'before the prefix, forwards');
    t.same(await names_(`${folder}k`, { after: 'z', reverse: true }), sorted.toReversed());
    t.same(await names_(`${folder}k`, { after: `${folder}k` }), sorted.slice(1));
    const slash = [`${folder}ka/`, `${folder}ka/b`];
    t.same(await names_(`${folder}ka/`), slash, 'a prefix is text, not a folder');
  });

  test('a listing of everything has everything', async (t, store, folder) => {
    const revision = await store.put(`${folder}a`, '1');
    const all = await store.list('', { countMax: 100_000 });
    t.equal(all.revision, revision);
    t.ok(all.entries.some(({ key }) => key === `${folder}a`));
    t.same(
      (await store.list('', { countMax: 100_000, reverse: true })).entries.toReversed(),
      all.entries,
    );
  });

  test('a listing longer than a page of the store is of one moment', async (t, store, folder) => {
    const keys = Array.from(
      { length: 1300 },
      (_, index) => `${folder}${String(index).padStart(5, '0')}`,
    );
    for (let at = 0; at < keys.length; at += 100) {
      await store.transact(
        [],
        keys.slice(at, at + 100).map((put) => ({ put, value: '0' })),
      );
    }
    t.equal((await store.list(folder)).entries.length, 1000, 'unless told otherwise');
    let round = 0;
    let over = false;
    const churn = (async () => {
      while (!over) {
        round += 1;
        await store.transact(
          [],
          [keys[0]!, keys[1299]!].map((put) => ({ put, value: `${round}` })),
        );
      }
    })();
    for (let count = 0; count < 20; count += 1) {
      const { entries, revision } = await store.list(folder, { countMax: 2000 });
      t.equal(entries.length, 1300);
      t.equal(entries[0]?.value, entries[1299]?.value, 'the first and the last are of one moment');
      t.ok(entries.every((entry) => entry.revision <= revision));
    }
    over = true;
    await churn;
  });

  test('limits: n is taken, n + 1 is not, and nothing is changed', async (t, store, folder) => {
    const fill = (bytes: number): string => folder + 'é'.repeat((bytes - folder.length) / 2);
    const pad = folder.length % 2;
    const longest = `${pad === 0 ? '' : 'x'}`;
    const key512 = fill(512 - pad) + longest;
    t.equal(Buffer.byteLength(key512), 512);
    await store.put(key512, '1');
    t.equal((await store.get(key512))?.value, '1');
    await t.rejects(store.put(`${key512}x`, '1'), STORE_ERROR);
    await t.rejects(store.put('', '1'), STORE_ERROR);
    await t.rejects(store.get(''), STORE_ERROR);
    const value = '\u{1f4be}'.repeat(16_384);
    await store.put(`${folder}v`, value);
    t.equal((await store.get(`${folder}v`))?.value, value);
    await t.rejects(store.put(`${folder}v`, `${value}x`), STORE_ERROR);
    const ops = (count: number, length = 1): MetaOp[] =>
      Array.from({ length: count }, (_, index) => ({
        put: `${folder}o${index}`,
        value: 'x'.repeat(length),
      }));
    await t.rejects(store.transact([], ops(101)), STORE_ERROR);
    await t.rejects(store.transact([], ops(17, 65_536)), STORE_ERROR, '1 MiB in a transaction');
    t.equal((await store.list(`${folder}o`)).entries.length, 0);
    t.ok(await store.transact([], ops(100)));
    t.ok(await store.transact([], ops(15, 65_536)));
    const compares = (count: number): MetaCompare[] =>
      Array.from({ length: count }, (_, index) => ({ key: `${folder}none${index}`, revision: 0 }));
    await t.rejects(store.transact(compares(101), []), STORE_ERROR);
    t.ok(await store.transact(compares(100), [{ put: `${folder}c`, value: '1' }]));
    const twice: MetaOp[] = [{ put: `${folder}t`, value: '1' }, { remove: `${folder}t` }];
    await t.rejects(store.transact([], twice), STORE_ERROR, 'a key comes once');
  });

  test('text that is no Unicode is refused, all other text comes back', async (t, store, folder) => {
    await t.rejects(store.put(`${folder}\ud800`, '1'), STORE_ERROR);
    await t.rejects(store.put(`${folder}a`, 'x\udc00'), STORE_ERROR);
    await t.rejects(store.list(`${folder}\ud800`), STORE_ERROR);
    const texts = ['\0', '\ufeff', '\ufffd', '\u{10ffff}', 'e\u0301', '\u00e9', '"\\\n', ' '];
    for (const text of texts) await store.put(`${folder}${text}`, text);
    const { entries } = await store.list(folder);
    t.equal(entries.length, texts.length);
    for (const text of texts) t.equal((await store.get(`${folder}${text}`))?.value, text);
    for (const { key, value } of entries) t.equal(key, `${folder}${value}`);
  });

  test('random changes and listings are those of a plain map', async (t, store, folder) => {
    const seed = Number(process.env['SEED'] ?? 1 + Math.floor(Math.random() * 1e9));
    t.comment(`SEED=${seed}`);
    const random = new Random(seed);
    const model = new Map<string, MetaEntry>();
    const names = ['a', 'aa', 'ab', 'a/', 'b', 'b\0', 'bé', 'c', 'c/d', '\u{10000}'].map(
      (name) => folder + name,
    );
    const bytesOrder = (left: string, right: string): number =>
      Buffer.compare(Buffer.from(left), Buffer.from(right));
    for (let step = 0; step < 400; step += 1) {
      if (random.below(3) > 0) {
        const ops: MetaOp[] = [];
        for (const key of names) {
          if (random.below(4) > 0) continue;
          ops.push(random.below(2) ? { put: key, value: `${step}` } : { remove: key });
        }
        const compares: MetaCompare[] = [];
        for (let count = random.below(3); count > 0; count -= 1) {
          const key = random.pick(names);
          const revision = model.get(key)?.revision ?? 0;
          compares.push({ key, revision: random.below(6) === 0 ? revision + 1 : revision });
        }
        const holds = compares.every(
          ({ key, revision }) => (model.get(key)?.revision ?? 0) === revision,
        );
        const revision = await store.transact(compares, ops);
        t.equal(revision !== undefined, holds, `step ${step}`);
        for (const op of holds ? ops : []) {
          if ('put' in op) model.set(op.put, { key: op.put, value: op.value, revision: revision! });
          else model.delete(op.remove);
        }
      } else {
        const prefix = random.pick([folder, ...names]);
        const after = random.pick([undefined, undefined, ...names, folder, 'zzz']);
        const reverse = random.below(2) === 1;
        const countMax = random.pick([0, 1, 2, 3, 100]);
        const expected = [...model.values()]
          .filter(({ key }) => key.startsWith(prefix))
          .filter(
            ({ key }) =>
              after === undefined ||
              (reverse ? bytesOrder(key, after) < 0 : bytesOrder(key, after) > 0),
          )
          .toSorted((left, right) => bytesOrder(left.key, right.key) * (reverse ? -1 : 1))
          .slice(0, countMax);
        const options = { reverse, countMax, ...(after !== undefined && { after }) };
        const { entries } = await store.list(prefix, options);
        if (JSON.stringify(entries) !== JSON.stringify(expected)) {
          t.same(
            entries,
            expected,
            `step ${step}: ${JSON.stringify({ prefix, after, reverse, countMax })}`,
          );
        }
      }
    }
  });

  watchCases(test);
  leaseCases(test);

  test('what is closed fails, and says so', async (t, store, folder) => {
    const watched = new Watched();
    store.watch(folder, (await store.list(folder)).revision, watched);
    await store.close();
    await store.close();
    t.equal(watched.lostCount, 1);
    await t.rejects(store.get(`${folder}a`), STORE_ERROR);
    await t.rejects(store.list(folder), STORE_ERROR);
    await t.rejects(store.put(`${folder}a`, '1'), STORE_ERROR);
    await t.rejects(store.grant(1000), STORE_ERROR);
  });
}

type Case = (
  name: string,
  body: (t: Test, store: MetaStore, folder: string) => Promise<void>,
) => void;

function watchCases(test: Case): void {
  test('a watch tells each change behind a revision once, in order', async (t, store, folder) => {
    await store.put(`${folder}old`, '1');
    const { revision } = await store.list(folder);
    const early = await store.put(`${folder}a`, '1');
    const watched = new Watched();
    t.teardown(store.watch(folder, revision, watched));
    const other = new Watched();
    t.teardown(store.watch(`${folder}b`, revision, other));
    const both = await store.transact(
      [],
      [
        { put: `${folder}a`, value: '2' },
        { put: `${folder}b`, value: '2' },
      ],
    );
    await store.put(`${folder.slice(0, -1)}0`, 'not under it');
    const gone = await store.cas(`${folder}a`, both!, undefined);
    await until(() => watched.changes.length >= 4 && other.changes.length >= 1);
    t.same(watched.changes, [
      { key: `${folder}a`, value: '1', revision: early },
      { key: `${folder}a`, value: '2', revision: both },
      { key: `${folder}b`, value: '2', revision: both },
      { key: `${folder}a`, value: undefined, revision: gone },
    ]);
    t.same(other.changes, [{ key: `${folder}b`, value: '2', revision: both }]);
    t.equal(watched.lostCount, 0);
  });

  test('a watch that was ended tells nothing', async (t, store, folder) => {
    const ended = new Watched();
    const other = new Watched();
    const { revision } = await store.list(folder);
    const end = store.watch(folder, revision, ended);
    store.watch(folder, revision, other);
    await store.put(`${folder}a`, '1');
    await until(() => other.changes.length === 1);
    end();
    end();
    const seen = ended.changes.length;
    await store.put(`${folder}a`, '2');
    await until(() => other.changes.length === 2);
    t.equal(ended.changes.length, seen);
    store.watch(folder, revision, ended)();
    await store.put(`${folder}a`, '3');
    await until(() => other.changes.length === 3);
    t.equal(ended.changes.length, seen);
    t.equal(ended.lostCount, 0);
  });

  test('watchers see all of 500 changes, whoever makes them', async (t, store, folder) => {
    const watched = Array.from({ length: 5 }, () => new Watched());
    const { revision } = await store.list(folder);
    for (const each of watched) t.teardown(store.watch(folder, revision, each));
    await Promise.all(
      Array.from({ length: 500 }, (_, index) => store.put(`${folder}${index % 7}`, `${index}`)),
    );
    const model = new Map((await store.list(folder)).entries.map(({ key, value }) => [key, value]));
    for (const each of watched) {
      await until(() => each.changes.length === 500);
      const revisions = each.changes.map((change) => change.revision);
      t.same(
        revisions,
        revisions.toSorted((left, right) => left - right),
      );
      t.same(new Map(each.changes.map(({ key, value }) => [key, value])), model);
    }
  });
}

function leaseCases(test: Case): void {
  test('entries under a lease go when it is not kept alive, and are told', async (t, store, folder) => {
    const lease = await store.grant(1000);
    t.ok(lease.ttlMs >= 1000 && lease.ttlMs <= 3000, `${lease.ttlMs} ms`);
    const { revision } = await store.list(folder);
    const watched = new Watched();
    t.teardown(store.watch(folder, revision, watched));
    await store.put(`${folder}a`, '1', lease);
    await store.transact(
      [],
      [
        { put: `${folder}b`, value: '1', lease },
        { put: `${folder}c`, value: '1' },
      ],
    );
    const startMs = performance.now();
    await until(async () => (await store.list(folder)).entries.length === 1);
    const lastedMs = performance.now() - startMs;
    t.ok(lastedMs > lease.ttlMs - 500, `not before its end (${Math.round(lastedMs)} ms)`);
    await until(() => watched.changes.length >= 5);
    const [, , , ...gone] = watched.changes;
    t.same(gone.map(({ key, value }) => [key, value]).toSorted(), [
      [`${folder}a`, undefined],
      [`${folder}b`, undefined],
    ]);
    t.equal(gone[0]!.revision, gone[1]!.revision, 'under one revision');
    t.equal(await store.keepalive(lease), false);
    await t.rejects(store.put(`${folder}a`, '1', lease), STORE_ERROR, 'nothing more goes under it');
    await store.revoke(lease);
  });

  test('a lease that is kept alive lasts', async (t, store, folder) => {
    const lease = await store.grant(1000);
    await store.put(`${folder}a`, '1', lease);
    const endMs = performance.now() + 2.5 * lease.ttlMs;
    while (performance.now() < endMs) {
      t.equal(await store.keepalive(lease), true);
      await delay(lease.ttlMs / 5);
    }
    t.equal((await store.get(`${folder}a`))?.value, '1');
    await store.revoke(lease);
    t.equal(await store.get(`${folder}a`), undefined, 'and goes at once when it is revoked');
    t.equal(await store.keepalive(lease), false);
  });

  test('an entry that is put again leaves its lease', async (t, store, folder) => {
    const [first, second] = [await store.grant(60_000), await store.grant(60_000)];
    for (const name of ['a', 'b', 'c']) await store.put(`${folder}${name}`, '1', first);
    await store.put(`${folder}a`, '2');
    await store.put(`${folder}b`, '2', second);
    await store.cas(`${folder}c`, (await store.get(`${folder}c`))!.revision, undefined);
    await store.put(`${folder}c`, '2');
    await store.revoke(first);
    const names = async (): Promise<string[]> =>
      (await store.list(folder)).entries.map(({ key }) => key.slice(folder.length));
    t.same(await names(), ['a', 'b', 'c']);
    await store.revoke(second);
    t.same(await names(), ['a', 'c']);
  });
}

/** Opens a store that is closed at the end of the test. */
export async function opened(t: Test, address: string): Promise<MetaStore> {
  const store = await openMetaStore(address);
  t.teardown(() => store.close());
  return store;
}

/** Tries until the store takes a change again. */
export async function putAgain(store: MetaStore, key: string, value: string): Promise<void> {
  await until(() =>
    store.put(key, value).then(
      () => true,
      () => false,
    ),
  );
}
