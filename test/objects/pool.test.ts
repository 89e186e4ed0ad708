/** Where values go and where they are found, over links that die, fall silent and refuse. */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { KeyHolders } from '../../objects/key-holders.ts';
import { idOf, poolRig, type MemoryLink } from '../helpers/object-pool.ts';

const key = (text: string) => ({ kind: 'key', key: text }) as const;
const bytes = (text: string): Buffer => Buffer.from(text);
const text = (piece: { bytes: Uint8Array } | undefined): string | undefined =>
  piece && Buffer.from(piece.bytes).toString();
const counts = (links: readonly MemoryLink[]): number[] => links.map(({ count }) => count);

t.test('what stays here ends before the call returns, and asks nobody', (t) => {
  const { pool, links, nodeId } = poolRig(t, 2);
  const info = pool.put({ key: 'k' }, bytes('v'), {});
  t.notOk(info instanceof Promise);
  t.match(info, { holder: nodeId, owner: nodeId, version: 1 });
  const piece = pool.get(key('k'), undefined, 0, 10);
  t.notOk(piece instanceof Promise);
  t.match(pool.get(key('k'), 'local', 0, 10), { offset: 0 });
  t.match(pool.get(key('k'), 'SELF', 0, 10), { offset: 0 }, 'by its own name');
  t.match(pool.get(key('k'), nodeId, 0, 10), { offset: 0 });
  t.equal(pool.delete(key('k'), undefined), true);
  t.same(counts(links), [0, 0]);
  t.end();
});

t.test('a miss is one request to each peer that is up, and one round trip', async (t) => {
  const { pool, links } = poolRig(t, 8);
  links[3]!.up = false;
  t.equal(await pool.get(key('nothing'), undefined, 0, 10), undefined);
  t.same(counts(links), [1, 1, 1, 0, 1, 1, 1, 1]);
  t.equal(await pool.stat(key('nothing'), undefined), undefined);
  t.same(counts(links), [2, 2, 2, 0, 2, 2, 2, 2]);
  t.equal(await pool.get(key('nothing'), 'n1', 0, 10), undefined);
  t.equal(links[0]!.count, 3);
});

t.test('the first that has it wins, while others are silent or gone', async (t) => {
  const { pool, links, nodes, nodeId } = poolRig(t, 4);
  nodes[2]!.store.openHolder(nodeId).put('k', bytes('there'), {});
  links[0]!.state = 'silent';
  links[1]!.state = 'down';
  t.equal(text(await pool.get(key('k'), undefined, 0, 10)), 'there');
  t.match(await pool.stat(key('k'), undefined), { holder: idOf(3) });
});

t.test('an answer that is there before anybody could wait for it is heard', async (t) => {
  const { pool, links, nodes, nodeId } = poolRig(t, 3);
  for (const [index, link] of links.entries()) {
    link.request = (body) =>
      Promise.resolve(nodes[index]!.server.serveObject(nodeId, Buffer.from(body)));
  }
  await pool.put({ key: 'k', peer: 'n2' }, bytes('v'), {});
  let slowestMs = 0;
  for (let count = 0; count < 500; count += 1) {
    const startMs = performance.now();
    if (text(await pool.get(key('k'), undefined, 0, 10)) !== 'v') t.fail('the value');
    if ((await pool.get(key('nothing'), undefined, 0, 10)) !== undefined) t.fail('a miss');
    slowestMs = Math.max(slowestMs, performance.now() - startMs);
  }
  t.ok(slowestMs < 900, 'not one waited for its deadline of a second');
});

t.test('a silent peer holds a miss up for about a second and no longer', async (t) => {
  const { pool, links } = poolRig(t, 2);
  links[0]!.state = 'silent';
  const startMs = performance.now();
  t.equal(await pool.get(key('nothing'), undefined, 0, 10), undefined);
  const tookMs = performance.now() - startMs;
  t.ok(tookMs >= 990, 'it had its time');
  t.ok(tookMs < 10_000, 'and no more');
});

t.test('a key is looked for first where this node wrote it', async (t) => {
  const { pool, links } = poolRig(t, 3);
  await pool.put({ key: 'k', peer: 'n2' }, bytes('v'), {});
  t.same(counts(links), [0, 1, 0]);
  t.equal(text(await pool.get(key('k'), undefined, 0, 10)), 'v');
  t.same(counts(links), [0, 2, 0], 'nobody else is asked');
  links[1]!.state = 'down';
  await t.rejects(
    async () => pool.get(key('k'), undefined, 0, 10),
    { code: 'ERR_PEER_UNREACHABLE' },
    'no false miss while its holder cannot be asked',
  );
  links[1]!.state = 'good';
  t.equal(await pool.delete(key('k'), undefined), true);
  t.equal(await pool.get(key('k'), undefined, 0, 10), undefined);
  // What was written here last is what is read, though an older value is elsewhere.
  await pool.put({ key: 'k', peer: 'n3' }, bytes('old'), {});
  void pool.put({ key: 'k' }, bytes('new'), {});
  t.equal(text(await pool.get(key('k'), undefined, 0, 10)), 'new');
  await pool.put({ key: 'k', peer: 'n3' }, bytes('newest'), {});
  t.equal(text(await pool.get(key('k'), undefined, 0, 10)), 'newest');
});

t.test(
  'bytes that come at once are the holder’s, those that come later the reader’s',
  async (t) => {
    const { pool, here, nodes, nodeId } = poolRig(t, 1);
    const other = bytes('w'.repeat(1024));
    void pool.put({ key: 'k' }, bytes('v'.repeat(1024)), {});
    const early = pool.get(key('k'), undefined, 0, 1024) as { bytes: Uint8Array };
    t.equal(text(early), 'v'.repeat(1024));
    t.equal(pool.delete(key('k'), undefined), true);
    t.equal(early.bytes[0], 0, 'it was never copied');
    // Looked for where it was written, then found here: that is later than at once.
    await pool.put({ key: 'k', peer: 'n1' }, other, {});
    nodes[0]!.store.openHolder(nodeId).flush();
    const local = here.store.openHolder(nodeId);
    local.put('k', other, {});
    const late = await pool.get(key('k'), undefined, 0, 1024);
    local.delete(key('k'));
    t.equal(text(late), 'w'.repeat(1024));
  },
);

t.test('a key that its holder lost is a miss, and is forgotten', async (t) => {
  const { pool, links, nodes, nodeId } = poolRig(t, 2);
  await pool.put({ key: 'k', peer: 'n1' }, bytes('v'), {});
  nodes[0]!.store.openHolder(nodeId).flush();
  t.equal(await pool.get(key('k'), undefined, 0, 10), undefined);
  const before = counts(links);
  t.equal(await pool.get(key('k'), undefined, 0, 10), undefined);
  t.same(counts(links), [before[0]! + 1, before[1]! + 1], 'one round trip again');
});

t.test('`remote` takes the freer of two, and the next when one refuses', async (t) => {
  const { pool, links, nodes } = poolRig(t, 4);
  for (const [index, link] of links.entries()) link.freeBytes = 1000 * (index + 1);
  const held = [0, 0, 0, 0];
  for (let index = 0; index < 200; index += 1) {
    const info = await pool.put({ remote: true }, bytes('v'), {});
    const at = links.findIndex(({ nodeId }) => nodeId === info.holder);
    held[at]! += 1;
  }
  t.ok(held[3]! > held[0]!, `of two at random the freer: ${held.join()}`);
  t.ok(held[1]! > 0 && held[2]! > 0, 'and not always the same one');
  for (const { memory } of nodes.slice(1)) memory.offeredBytes = 0;
  const info = await pool.put({ remote: true, key: 'k' }, bytes('v'), {});
  t.equal(info.holder, idOf(1), 'the only one with room');
  nodes[0]!.memory.offeredBytes = 0;
  await t.rejects(async () => pool.put({ remote: true }, bytes('v'), {}), {
    code: 'ERR_LEASE_CAPACITY',
  });
  for (const link of links) link.freeBytes = 0;
  await t.rejects(async () => pool.put({ remote: true }, bytes('v'), {}), {
    code: 'ERR_LEASE_CAPACITY',
  });
  for (const link of links) link.up = false;
  await t.rejects(async () => pool.put({ remote: true }, bytes('v'), {}), {
    code: 'ERR_PEER_UNREACHABLE',
  });
  t.throws(() => pool.put({ remote: true, peer: 'n1' }, bytes('v'), {}), { code: 'ERR_USAGE' });
  t.throws(() => pool.put({ peer: 'nobody' }, bytes('v'), {}), { code: 'ERR_PEER_UNKNOWN' });
});

t.test('`remote` keeps value and notes for the second try: they are borrowed', async (t) => {
  const { pool, links, nodes } = poolRig(t, 2);
  // The freer one is asked first and refuses.
  links[0]!.freeBytes = 2000;
  nodes[0]!.memory.offeredBytes = 0;
  const value = bytes('value');
  const meta = bytes('notes');
  const written = pool.put({ remote: true, key: 'k' }, value, { meta });
  value.fill('!');
  meta.fill('!');
  const info = await written;
  t.equal(info.holder, idOf(2));
  t.equal(Buffer.from(info.meta).toString(), 'notes');
  const read = await pool.get({ kind: 'key', key: 'k' }, 'n2', 0, 100);
  t.equal(read?.bytes.toString(), 'value');
});

t.test('`remote` writes a key again where it is', async (t) => {
  const { pool, links } = poolRig(t, 4);
  const first = await pool.put({ remote: true, key: 'k' }, bytes('1'), {});
  for (let version = 2; version < 12; version += 1) {
    const info = await pool.put({ remote: true, key: 'k' }, bytes('x'), {});
    t.match(info, { holder: first.holder, version });
  }
  t.equal(links.filter(({ count }) => count > 0).length, 1);
});

t.test('`remote` does not write twice when a peer may have done it', async (t) => {
  const { pool, links } = poolRig(t, 2);
  let asked = 0;
  for (const link of links) {
    link.request = () => {
      asked += 1;
      return Promise.reject(new MemcloudError('ERR_TIMEOUT', 'it did not answer'));
    };
  }
  await t.rejects(async () => pool.put({ remote: true }, bytes('v'), {}), { code: 'ERR_TIMEOUT' });
  t.equal(asked, 1);
});

t.test('a block id says who holds it', async (t) => {
  const { pool, links, here, nodeId } = poolRig(t, 3);
  const there = await pool.put({ peer: 'n2' }, bytes('there'), {});
  const local = here.store.openHolder(nodeId).put(undefined, bytes('here'), {});
  t.equal(text(await pool.get(there.name, undefined, 0, 10)), 'there');
  t.equal(text(await pool.get(local.name, undefined, 0, 10)), 'here');
  t.same(counts(links), [0, 2, 0]);
  t.equal(await pool.get({ kind: 'block', id: '7' }, undefined, 0, 1), undefined, 'of no node');
  t.throws(() => pool.get({ kind: 'block', id: String(2n ** 64n) }, undefined, 0, 1), {
    code: 'ERR_USAGE',
  });
  links[1]!.state = 'down';
  await t.rejects(
    async () => pool.get(there.name, undefined, 0, 10),
    { code: 'ERR_PEER_UNREACHABLE' },
    'not there is another answer than gone',
  );
  links[1]!.state = 'good';
  t.equal(await pool.delete(there.name, undefined), true);
  t.equal(await pool.delete(there.name, undefined), false);
});

t.test('values that come in pieces, here and there', async (t) => {
  const { pool } = poolRig(t, 2);
  for (const to of [{ key: 's' }, { key: 's', peer: 'n1' }, { remote: true }]) {
    const upload = await pool.begin(to, {}, 10);
    await upload.append(0, bytes('01234'));
    await upload.append(5, bytes('56789'));
    t.equal(await pool.get(key('unseen'), undefined, 0, 1), undefined);
    const info = await upload.commit();
    t.match(info, { holder: upload.holder, sizeBytes: 10 });
    t.equal(text(await pool.get(info.name, undefined, 3, 4)), '3456');
    await pool.delete(info.name, undefined);
  }
  const given = await pool.begin({ peer: 'n1' }, {});
  await given.append(0, bytes('x'));
  await given.abort();
  await t.rejects(async () => given.commit(), { code: 'ERR_OBJECT_UNKNOWN' });
});

t.test('a listing goes over all holders, page by page, and goes on', async (t) => {
  const { pool, links } = poolRig(t, 3);
  const names = new Set<string>();
  for (const peer of ['local', 'n1', 'n2', 'n3']) {
    for (let index = 0; index < 25; index += 1) {
      await pool.put({ key: `${peer}-${index}`, peer }, bytes('v'), {});
      names.add(`${peer}-${index}`);
    }
  }
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const page = await pool.listPool({ countMax: 7, ...(cursor === null ? {} : { cursor }) });
    t.ok(page.objects.length <= 7);
    for (const { name } of page.objects) if (name.kind === 'key') seen.push(name.key);
    cursor = page.cursor;
  } while (cursor !== null);
  t.equal(seen.length, 100);
  t.same(new Set(seen), names);
  const some = await pool.listPool({ patterns: ['n?-1'] });
  t.same(
    some.objects.map(({ name }) => name),
    ['n1-1', 'n2-1', 'n3-1'].map(key),
  );
  links[0]!.state = 'silent';
  links[1]!.state = 'down';
  const rest = await pool.listPool({});
  t.same(rest.unreachable, ['n1', 'n2']);
  t.equal(rest.objects.length, 50);
  t.equal(rest.cursor, null);
  await t.rejects(pool.listPool({ cursor: 'what' }), { code: 'ERR_USAGE' });
});

t.test('a flush tells what it did on each, and what it could not', async (t) => {
  const { pool, links } = poolRig(t, 2);
  for (const peer of ['local', 'n1', 'n2']) await pool.put({ key: peer, peer }, bytes('four'), {});
  links[1]!.state = 'down';
  t.match(await pool.flushPool(), [
    { holderName: 'self', objectCount: 1, valueBytes: 4, problem: '' },
    { holderName: 'n1', objectCount: 1, valueBytes: 4, problem: '' },
    { holderName: 'n2', objectCount: 0, valueBytes: 0, problem: /ERR_PEER_UNREACHABLE/ },
  ]);
  await t.rejects(pool.flush('n2'), { code: 'ERR_PEER_UNREACHABLE' });
  t.equal(await pool.get(key('n1'), undefined, 0, 1), undefined);
  t.match(await pool.usage('n1'), { objectCount: 0 });
  t.match(pool.usage('local'), { objectCount: 0 });
});

t.test('the table of keys is bounded; the oldest makes room', (t) => {
  const table = new KeyHolders();
  for (let index = 0; index < 65_537; index += 1) table.set(`k${index}`, 'a');
  t.equal(table.count, 65_536);
  t.equal(table.get('k0'), undefined);
  t.equal(table.get('k65536'), 'a');
  table.deleteHolder('a');
  t.equal(table.count, 0);
  const long = 'x'.repeat(1000);
  for (let index = 0; index < 10_000; index += 1) table.set(`${long}${index}`, 'a');
  t.ok(table.count < 4200, `${table.count} keys of a thousand characters`);
  t.end();
});
