/** A holder behind a link that lies: what it says is held against what was asked. */
import t from 'tap';
import { encodeInfo, encodePiece, encodeUpload } from '../../objects/messages.ts';
import { holderPrefixOf, RemoteObjects } from '../../objects/remote.ts';
import { idOf, poolRig } from '../helpers/object-pool.ts';

const KEY = { kind: 'key', key: 'k' } as const;
const PROTOCOL = { code: 'ERR_PEER_PROTOCOL' };
const value = Buffer.from('value');

t.test('every call, over a link', async (t) => {
  const { links, nodeId } = poolRig(t, 1);
  const remote = new RemoteObjects(links[0]!, nodeId);
  t.equal(remote.nodeId, idOf(1));
  const info = await remote.put('k', value, { ttlMs: 60_000, meta: Buffer.from('m') });
  t.match(info, { name: KEY, holder: idOf(1), owner: nodeId, sizeBytes: 5, version: 1 });
  t.ok(info.expiresInMs! > 50_000 && info.expiresInMs! <= 60_000);
  t.match(await remote.get(KEY, 1, 2), { offset: 1, bytes: Buffer.from('al') });
  t.equal((await remote.get(KEY, 99, 2))?.bytes.length, 0, 'beyond the end');
  t.match(await remote.stat(KEY), { version: 1 });
  await t.rejects(remote.put('k', value, { ifVersion: 9 }), { code: 'ERR_OBJECT_CONFLICT' });
  await t.rejects(remote.put('k', Buffer.alloc(49_153), {}), { code: 'ERR_USAGE' });
  t.match(await remote.list({ kind: 'all' }), { objects: [{ name: KEY }], cursor: null });
  const upload = await remote.begin('s', {});
  await remote.append(upload, 0, value);
  await t.rejects(remote.append(upload, 99, value), { code: 'ERR_USAGE' });
  t.match(await remote.usage(), { objectCount: 1, uploadCount: 1 });
  await remote.commit(upload);
  await remote.abort(upload);
  t.equal(await remote.delete(KEY), true);
  t.equal(await remote.delete(KEY), false);
  t.match(await remote.flush(), { objectCount: 1 });
  t.equal(await remote.get(KEY, 0, 1), undefined);
});

t.test('a listing longer than a reply comes in more pages', async (t) => {
  const { links, nodes, nodeId } = poolRig(t, 1);
  const remote = new RemoteObjects(links[0]!, nodeId);
  const there = nodes[0]!.store.openHolder(nodeId);
  for (let index = 0; index < 100; index += 1) {
    there.put(`${String(index).padStart(3, '0')}${'x'.repeat(1000)}`, value, {});
  }
  const seen: string[] = [];
  let cursor: string | null = '';
  let pages = 0;
  while (cursor !== null) {
    const page: { objects: readonly { name: unknown }[]; cursor: string | null } =
      await remote.list(cursor === '' ? {} : { cursor });
    seen.push(...page.objects.map(({ name }) => (name as { key: string }).key.slice(0, 3)));
    ({ cursor } = page);
    pages += 1;
  }
  t.same(
    seen,
    Array.from({ length: 100 }, (_, index) => String(index).padStart(3, '0')),
  );
  t.ok(pages >= 2);
});

t.test('a holder that answers for another object, owner or size is not believed', async (t) => {
  const { links, nodeId } = poolRig(t, 1);
  const [link] = links;
  const remote = new RemoteObjects(link!, nodeId);
  const good = await remote.put('k', value, {});
  const lies: [string, () => Promise<unknown>, Buffer][] = [
    [
      'another key',
      () => remote.stat(KEY),
      encodeInfo({ ...good, name: { kind: 'key', key: 'j' } }),
    ],
    ['a block', () => remote.stat(KEY), encodeInfo({ ...good, name: { kind: 'block', id: '1' } })],
    [
      'written key',
      () => remote.put('k', value, {}),
      encodeInfo({ ...good, name: { kind: 'key', key: 'j' } }),
    ],
    ['written size', () => remote.put('k', value, {}), encodeInfo({ ...good, sizeBytes: 4 })],
    ['written owner', () => remote.put('k', value, {}), encodeInfo({ ...good, owner: idOf(9) })],
    ['key for block', () => remote.put(undefined, value, {}), encodeInfo(good)],
    [
      'a block of another holder',
      () => remote.put(undefined, value, {}),
      encodeInfo({ ...good, name: { kind: 'block', id: '5' } }),
    ],
    [
      'another offset',
      () => remote.get(KEY, 0, 5),
      encodePiece({ info: good, offset: 1, bytes: Buffer.from('x') }),
    ],
    [
      'more than was asked for',
      () => remote.get(KEY, 0, 2),
      encodePiece({ info: good, offset: 0, bytes: Buffer.from('abc') }),
    ],
    [
      'beyond the value',
      () => remote.get(KEY, 3, 5),
      encodePiece({ info: good, offset: 3, bytes: Buffer.from('abc') }),
    ],
    ['missing', () => remote.put('k', value, {}), Buffer.of(1)],
    ['an unknown status', () => remote.stat(KEY), Buffer.of(3)],
    ['an unknown code', () => remote.stat(KEY), Buffer.of(2, 99, 0, 0)],
    ['nothing', () => remote.stat(KEY), Buffer.alloc(0)],
    ['a long upload', () => remote.begin('k', {}), encodeUpload('x'.repeat(33))],
    ['rest', () => remote.begin('k', {}), Buffer.concat([encodeUpload('x'), Buffer.of(1)])],
  ];
  for (const [name, call, reply] of lies) {
    link!.forge = () => reply;
    await t.rejects(call(), PROTOCOL, name);
  }
});

t.test('the holder of a block by its id', (t) => {
  t.equal(holderPrefixOf(String((0xabcdefn << 40n) | 7n)), 0xabcdef);
  t.throws(() => holderPrefixOf(String(2n ** 64n)), { code: 'ERR_USAGE' });
  t.end();
});
