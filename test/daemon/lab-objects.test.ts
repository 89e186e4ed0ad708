/** Objects on real processes over the loopback: what MemCloud loses, leaks, gives to anybody and stalls on. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { MemcloudClient } from '../../sdk/client.ts';
import { eventually, labFolder, LabNode, memcloud } from '../helpers/lab-node.ts';
import { portOf } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

const PIECE = 48 * 1024;
const OBJECT = 0x30;
const OBJECT_REPLY = 0xb0;

/** A node and a client of it. */
interface Seat {
  node: LabNode;
  client: MemcloudClient;
}

async function seat(t: Test, node: LabNode): Promise<Seat> {
  const client = await MemcloudClient.connect(node.socketPath);
  t.teardown(() => client.close());
  return { node, client };
}

/** Providers alpha and beta, who know each other, and a consumer of both that lends as well. */
async function trio(t: Test, offer = '8M'): Promise<Record<'alpha' | 'beta' | 'consumer', Seat>> {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer });
  const connect = [alpha.peerAddress];
  const beta = await LabNode.start(t, { name: 'beta', folder, offer, connect });
  connect.push(beta.peerAddress);
  const consumer = await LabNode.start(t, { name: 'consumer', folder, offer, connect });
  await Promise.all([consumer.waitForPeers(2), alpha.waitForPeers(2), beta.waitForPeers(2)]);
  return {
    alpha: await seat(t, alpha),
    beta: await seat(t, beta),
    consumer: await seat(t, consumer),
  };
}

/** Bytes that a node has lent, by its own word. */
async function lentBytes({ client }: Seat): Promise<number> {
  return (await client.call('status', {})).provider.usage.usedBytes;
}

t.test('a put is acknowledged by its holder or refused; free gives the bytes back', async (t) => {
  const { alpha, consumer } = await trio(t);
  const { client } = consumer;
  const before = await lentBytes(alpha);
  const value = randomBytes(PIECE);

  const row = await client.call('object.put', { key: 'k', peer: 'alpha', data: value });
  t.match(row, {
    ...{ key: 'k', id: null, holder: alpha.node.nodeId, holderName: 'alpha' },
    ...{ owner: consumer.node.nodeId, sizeBytes: PIECE, version: 1 },
    ...{ mode: 'pinned', readers: 'trusted', expiresInMs: null },
  });
  t.ok((await lentBytes(alpha)) >= before + PIECE, 'charged there');
  const piece = await client.call('object.get', { key: 'k', offset: 1000, length: 500 });
  t.ok(Buffer.from(piece.data).equals(value.subarray(1000, 1500)), 'a range of it');
  t.match(await alpha.client.call('object.get', { key: 'k' }), { found: true }, 'trusted may read');

  const block = await client.call('object.put', { peer: 'alpha', data: Buffer.from('block') });
  t.equal(BigInt(block.id!) >> 40n, BigInt(`0x${alpha.node.nodeId.slice(0, 6)}`));
  const found = await client.call('object.get', { id: block.id! });
  t.equal(Buffer.from(found.data).toString(), 'block');
  t.same(await client.call('object.delete', { id: block.id! }), { deleted: true });
  t.same(await client.call('object.delete', { id: block.id! }), { deleted: false });
  t.same(await client.call('object.delete', { key: 'k' }), { deleted: true });
  t.equal(await lentBytes(alpha), before, 'exactly what it was');
  t.match(await client.call('object.get', { key: 'k' }), { found: false });

  // 8 MiB are offered. MemCloud answers "stored" and drops the value.
  const keys = Array.from({ length: 200 }, (_, index) => `full-${index}`);
  const ends = await Promise.allSettled(
    keys.map((key) => client.call('object.put', { key, peer: 'alpha', data: value })),
  );
  const kept = ends.map(({ status }) => status === 'fulfilled');
  t.ok(kept.includes(true) && kept.includes(false), 'some were kept, some refused');
  const codes = ends.flatMap((end) =>
    end.status === 'rejected' ? [(end.reason as { code: string }).code] : [],
  );
  t.same([...new Set(codes)], ['ERR_LEASE_CAPACITY']);
  const there = await Promise.all(
    keys.map((key) => client.call('object.stat', { key, peer: 'alpha' })),
  );
  t.same(
    there.map((row) => row !== null),
    kept,
    'what was acknowledged is there, what was refused is not',
  );
  const count = kept.filter(Boolean).length;
  t.match(await client.call('object.flush', { peer: 'alpha' }), [
    { holderName: 'alpha', objectCount: count, valueBytes: count * PIECE, problem: '' },
  ]);
  t.equal(await lentBytes(alpha), before, 'a flush gives everything back');
});

t.test('nobody reads, changes or deletes what is not for him (W2, W3)', async (t) => {
  const { alpha, beta, consumer } = await trio(t);
  const mine = consumer.client;
  const other = beta.client;
  const data = Buffer.from('secret');
  await mine.call('object.put', { key: 'private', peer: 'alpha', data, readers: 'private' });
  await mine.call('object.put', { key: 'for-beta', peer: 'alpha', data, readers: ['beta'] });
  await mine.call('object.put', { key: 'for-alpha', peer: 'alpha', data, readers: ['alpha'] });
  await other.call('object.put', { key: 'its-own', peer: 'alpha', data });

  t.match(await other.call('object.get', { key: 'private', peer: 'alpha' }), { found: false });
  t.equal(await other.call('object.stat', { key: 'private', peer: 'alpha' }), null);
  t.match(await alpha.client.call('object.get', { key: 'private' }), { found: false }, 'nor he');
  t.same(await other.call('object.delete', { key: 'private', peer: 'alpha' }), { deleted: false });
  const seen = await other.call('object.list', { peer: 'alpha' });
  t.same(
    seen.objects.map(({ key }) => key),
    ['for-beta', 'its-own'],
  );
  t.match(await other.call('object.get', { key: 'for-beta', peer: 'alpha' }), { found: true });
  const attempts: (() => Promise<unknown>)[] = [
    () => other.call('object.delete', { key: 'for-beta', peer: 'alpha' }),
    () => other.call('object.put', { key: 'for-beta', peer: 'alpha', data }),
    () => alpha.client.call('object.put', { key: 'for-alpha', data }),
  ];
  for (const attempt of attempts) {
    await t.rejects(attempt(), { code: 'ERR_OBJECT_DENIED' });
  }
  t.match(await other.call('object.flush', { peer: 'alpha' }), [{ objectCount: 1 }]);
  t.match(await alpha.client.call('object.flush', {}), [{ objectCount: 0 }]);
  t.match(await mine.call('object.usage', { peer: 'alpha' }), { objectCount: 3 });
  await t.rejects(
    mine.call('object.put', { key: 'x', data, readers: ['nobody'] }),
    { code: 'ERR_PEER_UNKNOWN' },
    'a reader that nobody knows is no reader',
  );
  const expected = { code: 'ERR_USAGE' };
  await t.rejects(mine.call('object.get', {}), expected);
  await t.rejects(mine.call('object.get', { key: 'a', id: '1' }), expected);
  await t.rejects(mine.call('object.list', { pool: true, peer: 'alpha' }), expected);
  await t.rejects(mine.call('object.flush', { all: true, peer: 'alpha' }), expected);
});

t.test('a key that nobody has is a miss after one round trip to all', async (t) => {
  const { alpha, consumer } = await trio(t);
  const { client } = consumer;
  await alpha.client.call('object.put', { key: 'hit', data: Buffer.alloc(1024) });
  const measure = async (key: string): Promise<number> => {
    const times: number[] = [];
    for (let count = 0; count < 200; count += 1) {
      const startMs = performance.now();
      await client.call('object.get', { key });
      times.push(performance.now() - startMs);
    }
    return times.sort((a, b) => a - b)[100]!;
  };
  await measure('hit');
  const hitMs = await measure('hit');
  const missMs = await measure('miss');
  t.match(await client.call('object.get', { key: 'hit' }), { found: true });
  t.match(await client.call('object.get', { key: 'miss' }), { found: false });
  // That it is one round trip is held by test/objects/pool.test.ts, which counts requests.
  t.comment(`hit ${hitMs.toFixed(3)} ms, miss ${missMs.toFixed(3)} ms with 2 peers`);
  alpha.node.child.kill('SIGSTOP');
  const startMs = performance.now();
  t.match(await client.call('object.get', { key: 'nothing' }), { found: false });
  t.ok(
    performance.now() - startMs < 15_000,
    'a peer that stands still does not hold it up for long',
  );
  alpha.node.child.kill('SIGCONT');
});

t.test('a value in pieces belongs to its connection and its session', async (t) => {
  const { alpha, consumer } = await trio(t);
  const before = await lentBytes(alpha);
  const writer = await MemcloudClient.connect(consumer.node.socketPath);
  const { upload } = await writer.call('object.begin', { key: 's', peer: 'alpha' });
  const piece = randomBytes(PIECE);
  for (let index = 0; index < 20; index += 1) {
    await writer.call('object.append', { upload, offset: index * PIECE, data: piece });
  }
  t.ok((await lentBytes(alpha)) >= before + 20 * PIECE, 'room counts from the first byte');
  t.match(await consumer.client.call('object.get', { key: 's' }), { found: false }, 'unseen');
  const theft = { upload, offset: 20 * PIECE, data: piece };
  const unknown = { code: 'ERR_OBJECT_UNKNOWN' };
  await t.rejects(consumer.client.call('object.append', theft), unknown);
  await t.rejects(consumer.client.call('object.commit', { upload }), unknown);
  t.equal(await consumer.client.call('object.abort', { upload }), null);
  await t.rejects(writer.call('object.append', { ...theft, offset: 1 }), { code: 'ERR_USAGE' });
  writer.close();
  await eventually('the room is back', async () => (await lentBytes(alpha)) === before);

  const { client } = consumer;
  const whole = await client.call('object.begin', { key: 'whole', peer: 'alpha' });
  const pieces = Array.from({ length: 30 }, (_, index) =>
    client.call('object.append', { upload: whole.upload, offset: index * PIECE, data: piece }),
  );
  await Promise.all(pieces);
  t.match(await client.call('object.commit', { upload: whole.upload }), { sizeBytes: 30 * PIECE });
  const back = await client.call('object.get', { key: 'whole', offset: 7 * PIECE });
  t.ok(Buffer.from(back.data).equals(piece), 'pipelined pieces lie in order');
  const kept = await lentBytes(alpha);
  const lost = await client.call('object.begin', { key: 'lost', peer: 'alpha' });
  await client.call('object.append', { upload: lost.upload, offset: 0, data: piece });
  await consumer.node.end('SIGKILL');
  await eventually('its uploads ended with its session', async () => {
    return (await lentBytes(alpha)) === kept;
  });
  t.match(await alpha.client.call('object.get', { key: 'whole' }), { found: true }, 'objects stay');
});

t.test('a holder that is killed: errors in bounded time, other holders go on', async (t) => {
  const { alpha, beta, consumer } = await trio(t);
  const { client } = consumer;
  const data = randomBytes(PIECE);
  await client.call('object.put', { key: 'there', peer: 'beta', data });
  await client.call('object.put', { key: 'read', peer: 'alpha', data });
  const { upload } = await client.call('object.begin', { key: 's', peer: 'alpha' });
  const deadline = { timeoutMs: 60_000 };
  let offset = 0;
  const writing = (async (): Promise<void> => {
    for (; offset < 6 * 2 ** 20; offset += PIECE) {
      await client.call('object.append', { upload, offset, data }, deadline);
    }
    for (;;) await client.call('object.append', { upload, offset, data }, deadline);
  })();
  const reading = (async (): Promise<void> => {
    for (;;) await client.call('object.get', { key: 'read', peer: 'alpha' }, deadline);
  })();
  const ends = Promise.allSettled([writing, reading]);
  await eventually('it is in the middle', () => offset > 10 * PIECE);
  await alpha.node.end('SIGKILL');
  const startMs = performance.now();
  const codes = (await ends).map((end) =>
    end.status === 'rejected' ? (end.reason as { code: string }).code : 'none',
  );
  for (const code of codes) t.match(code, /^ERR_(PEER_UNREACHABLE|TIMEOUT|OBJECT_UNKNOWN|USAGE)$/);
  t.ok(performance.now() - startMs < 15_000, `after ${performance.now() - startMs} ms`);
  const found = await client.call('object.get', { key: 'there' });
  t.ok(Buffer.from(found.data).equals(data), 'what the other has is there');
  await client.call('object.put', { key: 'new', remote: true, data });
  t.match(await client.call('object.stat', { key: 'new' }), { holder: beta.node.nodeId });
  await t.rejects(client.call('object.commit', { upload }), { code: /./ });
  await t.rejects(
    client.call('object.get', { key: 'read' }),
    { code: 'ERR_PEER_UNREACHABLE' },
    'what this node wrote there is not said to be nowhere',
  );
  const listing = await client.call('object.list', { pool: true });
  t.same(
    listing.objects.map(({ key, holderName }) => [key, holderName]),
    [
      ['new', 'beta'],
      ['there', 'beta'],
    ],
  );
});

t.test('a brief answer leaves the row out where the bytes say it all', async (t) => {
  const { consumer } = await trio(t);
  const { client } = consumer;
  const data = Buffer.from('0123456789');
  const meta = Buffer.from('m');
  await client.call('object.put', { key: 'plain', data });
  await client.call('object.put', { key: 'there', peer: 'alpha', data });
  await client.call('object.put', { key: 'noted', data, meta });
  await client.call('object.put', { key: 'empty', data: Buffer.alloc(0) });
  const cases: [string, object, string, boolean][] = [
    ['plain', {}, '0123456789', false],
    ['there', {}, '0123456789', false],
    ['plain', { offset: 4 }, '456789', false],
    ['plain', { offset: 4, length: 6 }, '456789', false],
    ['plain', { offset: 4, length: 5 }, '45678', true],
    ['noted', {}, '0123456789', true],
    ['empty', {}, '', false],
  ];
  for (const [key, range, value, hasRow] of cases) {
    const {
      found,
      object,
      data: got,
    } = await client.call('object.get', {
      ...{ key, ...range },
      brief: true,
    });
    const text = `${key} ${JSON.stringify(range)}`;
    t.match({ found, value: Buffer.from(got).toString() }, { found: true, value }, text);
    t.equal(object?.key ?? null, hasRow ? key : null, `${text}: its row`);
  }
  t.match(await client.call('object.get', { key: 'gone', brief: true }), { found: false });
});

t.test(
  'a trusted peer that breaks the rules loses its session and nothing else (W4)',
  async (t) => {
    const { alpha, consumer } = await trio(t);
    const { client } = consumer;
    await client.call('object.put', { key: 'k', peer: 'alpha', data: Buffer.from('true') });
    const port = portOf(consumer.node.peerAddress);
    const reading = (async (): Promise<void> => {
      for (let count = 0; count < 300; count += 1) {
        const { data } = await client.call('object.get', { key: 'k' });
        if (Buffer.from(data).toString() !== 'true') throw new Error('another value');
      }
    })();
    for (let round = 0; round < 12; round += 1) {
      const liar = await RawPeer.open(port, `liar-${round}`);
      liar.send((writer) => {
        // Answers to every request that may be under way to somebody else, or no request at all.
        if (round % 2 === 0) {
          for (let slot = 0; slot < 64; slot += 1) {
            writer.body(OBJECT_REPLY, 2 ** 31 + slot, 1 + round, Buffer.from('false'));
          }
        } else writer.body(OBJECT, round, 1, randomBytes(50), 60_000);
      });
      await liar.ended();
      await liar.destroy();
    }
    await reading;
    const asks = await RawPeer.open(port, 'asks');
    asks.send((writer) => writer.body(OBJECT, 1, 1, Buffer.of(7), 4000));
    const reply = await asks.readType(OBJECT_REPLY);
    t.match(reply, { idLow: 1, idHigh: 1, aux: 0 }, 'one that keeps to them is served');
    t.equal(reply.body.length, 41);
    await asks.destroy();
    const peers = await client.call('peer.list', {});
    t.match(
      peers.find(({ name }) => name === 'alpha'),
      { state: 'up' },
    );
    t.match(await alpha.client.call('object.get', { key: 'k' }), { found: true });
  },
);

t.test('what a node owned goes with its trust', async (t) => {
  const { alpha, consumer } = await trio(t);
  const before = await lentBytes(alpha);
  const data = randomBytes(PIECE);
  await consumer.client.call('object.put', { key: 'k', peer: 'alpha', data });
  await consumer.client.call('object.begin', { key: 's', peer: 'alpha' });
  await alpha.client.call('trust.remove', { peer: 'consumer' });
  t.equal(await lentBytes(alpha), before);
  t.match(await alpha.client.call('object.get', { key: 'k' }), { found: false });
});

t.test('a restart that would lose pinned objects says so first', async (t) => {
  const folder = labFolder(t);
  const { node, client } = await seat(
    t,
    await LabNode.start(t, { name: 'alone', folder, offer: '8M' }),
  );
  const data = Buffer.from('v');
  await client.call('object.put', { key: 'cached', data, mode: 'cache' });
  await client.call('object.put', { key: 'kept', data });
  const refused = await memcloud(node.socketPath, 'restart');
  t.match(refused, { code: 1, stderr: /1 pinned objects are here .* would be lost/ });
  t.match(await client.call('object.get', { key: 'kept' }), { found: true }, 'it goes on');
  await client.call('object.delete', { key: 'kept' });
  await node.restart(t);
  await node.use(async (after) => {
    t.match(await after.call('object.get', { key: 'cached' }), { found: false });
    await after.call('object.put', { key: 'kept', data });
  });
  await node.restart(t, '--force');
  await node.use(async (after) => {
    t.match(await after.call('object.usage', {}), { objectCount: 0, chargedBytes: 0 });
  });
});
