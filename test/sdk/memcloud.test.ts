/** The SDK against real daemons: every method, and what happens when things end in the middle. */
import crypto from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { MemCloud, MemcloudError, type MemCloudEvent } from '../../sdk/memcloud.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';
import { lab } from '../helpers/lab.ts';

const PIECE = 48 * 1024;

/** A daemon that lends, and a MemCloud on it. */
async function single(t: Test): Promise<{ node: LabNode; cloud: MemCloud; folder: string }> {
  const folder = labFolder(t);
  const node = await LabNode.start(t, { name: 'one', folder, offer: '256M' });
  const cloud = new MemCloud(node.socketPath);
  t.teardown(() => cloud.close());
  await cloud.connect();
  return { node, cloud, folder };
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

t.test('blocks and keys of any size come back as they were', async (t) => {
  const { cloud } = await single(t);
  for (const size of [0, 1, 1024, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 7, 3_000_001]) {
    const value = crypto.randomBytes(size);
    const handle = await cloud.store(value);
    t.match(handle.id, /^\d+$/);
    t.ok((await cloud.load(handle.id)).equals(value), `block of ${size}`);
    t.ok((await cloud.load(handle)).equals(value), 'by its handle');
    const key = await cloud.set(`key ${size}`, value);
    t.equal(key.id, `key:key ${size}`);
    t.ok((await cloud.get(`key ${size}`)).equals(value), `key of ${size}`);
    t.ok((await cloud.load(key.id)).equals(value), 'a key by its handle');
    t.equal(await cloud.free(handle), true);
    t.equal(await cloud.free(handle.id), false, 'once');
  }
  t.equal((await cloud.get('key 1')).length, 1);
  await cloud.set('text', 'größe');
  t.equal((await cloud.get('text')).toString(), 'größe');
});

t.test('a miss is said at once, in the way that was asked for', async (t) => {
  const { cloud } = await single(t);
  await t.rejects(cloud.get('gone'), { code: 'ERR_OBJECT_UNKNOWN', message: /no key "gone"/ });
  await t.rejects(cloud.load('7'), { code: 'ERR_OBJECT_UNKNOWN' });
  t.equal(await cloud.find('gone'), undefined);
  t.equal(await cloud.delete('gone'), false);
  t.equal(await cloud.stat('gone'), undefined);
  await t.rejects(collect(cloud.getStream('gone')), { code: 'ERR_OBJECT_UNKNOWN' });
  await t.rejects(cloud.set('', 'x'), { code: 'ERR_USAGE' });
  await t.rejects(cloud.store(7 as never), { code: 'ERR_USAGE' });
  await t.rejects(cloud.load('not an id'), { code: 'ERR_USAGE' });
  const error = await cloud.get('gone').catch((thrown: unknown) => thrown);
  t.ok(error instanceof MemcloudError, 'typed');
});

t.test('several at once, ranges, versions, patterns, options', async (t) => {
  const { cloud } = await single(t);
  const values = Object.fromEntries(
    Array.from({ length: 200 }, (_, index) => [`many:${index}`, `value ${index}`]),
  );
  t.equal((await cloud.setMany(values)).length, 200);
  const got = await cloud.getMany([...Object.keys(values), 'gone']);
  t.same(
    got.map((value) => value?.toString()),
    [...Object.values(values), undefined],
  );
  t.equal((await cloud.keys('many:*')).length, 200);
  t.same(await cloud.keys(['many:1', 'many:19?']), [
    'many:1',
    ...Array.from({ length: 10 }, (_, index) => `many:19${index}`),
  ]);
  t.equal((await cloud.keys()).length, 200);

  const long = crypto.randomBytes(3 * PIECE);
  await cloud.set('long', long);
  for (const [offset, length] of [
    [0, 10],
    [PIECE - 5, 10],
    [5, 2 * PIECE],
    [3 * PIECE - 1, 100],
    [3 * PIECE, 1],
  ] as const) {
    const range = await cloud.getRange('long', offset, length);
    t.ok(range.equals(long.subarray(offset, offset + length)), `${offset} + ${length}`);
  }
  const { object } = await cloud.compareAndSet('cas', '1', 0);
  await t.rejects(cloud.compareAndSet('cas', '2', 0), { code: 'ERR_OBJECT_CONFLICT' });
  await cloud.compareAndSet('cas', '2', object.version);
  t.equal((await cloud.get('cas')).toString(), '2');
  await t.rejects(cloud.delete('cas', { ifVersion: object.version }), {
    code: 'ERR_OBJECT_CONFLICT',
  });
  const options = { mode: 'cache', ttlMs: 60_000, readers: 'private' } as const;
  await cloud.set('kept', 'x', { ...options, meta: Buffer.from('note') });
  const stat = await cloud.stat('kept');
  t.match(stat, { mode: 'cache', readers: 'private', sizeBytes: 1, key: 'kept' });
  t.equal(Buffer.from(stat?.meta ?? []).toString(), 'note');
  t.ok((stat?.expiresInMs ?? 0) > 0);
  const [flushed] = await cloud.flush();
  t.match(flushed, { holderName: 'one', objectCount: 203 });
  t.same(await cloud.keys(), []);
});

t.test('streams go there and back in pieces, whatever they come in', async (t) => {
  const { cloud } = await single(t);
  const bytes = crypto.randomBytes(5 * PIECE + 123);
  const sources: [string, () => Readable | Iterable<Buffer>][] = [
    ['one chunk', () => [bytes]],
    [
      'single bytes',
      () => Readable.from([...bytes.subarray(0, 3000)].map((byte) => Buffer.of(byte))),
    ],
    ['chunks of 1000', () => Readable.from(cut(bytes, 1000))],
    ['chunks of a piece', () => Readable.from(cut(bytes, PIECE))],
    ['great chunks', () => Readable.from(cut(bytes, 2 * PIECE + 1))],
    ['nothing', () => Readable.from([])],
  ];
  for (const [name, source] of sources) {
    const expected = name === 'nothing' ? 0 : name === 'single bytes' ? 3000 : bytes.length;
    const handle = await cloud.storeStream(source(), { key: name });
    t.equal(handle.object.sizeBytes, expected, name);
    const back = await collect(cloud.getStream(name));
    t.ok(back.equals(bytes.subarray(0, expected)), `${name}, back`);
  }
  const block = await cloud.storeStream(Readable.from(['text', ' and ', Buffer.from('bytes')]));
  t.equal((await collect(cloud.loadStream(block))).toString(), 'text and bytes');
  const part = await collect(cloud.getStream('one chunk', { offset: 100, length: PIECE }));
  t.ok(part.equals(bytes.subarray(100, 100 + PIECE)), 'a range as a stream');
});

function* cut(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

t.test('a stream that fails or is taken back leaves nothing', async (t) => {
  const { cloud } = await single(t);
  const charged = async (): Promise<number> => (await cloud.stats()).objects.chargedBytes;
  const before = await charged();
  const failing = Readable.from(
    (function* () {
      yield crypto.randomBytes(4 * PIECE);
      throw new Error('the disk is gone');
    })(),
  );
  await t.rejects(cloud.storeStream(failing), { message: 'the disk is gone' });
  const controller = new AbortController();
  const endless = new Readable({ read: () => undefined });
  endless.push(crypto.randomBytes(2 * PIECE));
  const taken = cloud.storeStream(endless, { signal: controller.signal });
  await eventually('it is on its way', async () => (await cloud.stats()).objects.uploadCount === 1);
  controller.abort();
  await t.rejects(taken, { code: 'ERR_CANCELLED' });
  t.equal(endless.destroyed, true, 'its source is let go');
  await t.rejects(cloud.storeStream([7 as never]), { code: 'ERR_USAGE' });
  await eventually('the room is back', async () => (await charged()) === before);
  t.equal((await cloud.stats()).objects.uploadCount, 0);

  await cloud.set('long', crypto.randomBytes(100 * PIECE));
  const half = cloud.getStream('long');
  for await (const chunk of half) {
    t.ok((chunk as Buffer).length > 0);
    break;
  }
  t.equal(half.destroyed, true, 'half a download is over when its loop is left');
  t.equal((await cloud.get('long')).length, 100 * PIECE, 'and the connection goes on');
});

t.test('a value that is replaced while it is read is never half and half', async (t) => {
  const { cloud } = await single(t);
  await cloud.set('k', Buffer.alloc(100 * PIECE, 1));
  const stream = cloud.getStream('k');
  const read = (async () => {
    for await (const chunk of stream) {
      if ((chunk as Buffer).includes(2)) throw new Error('half and half');
      await cloud.set('k', Buffer.alloc(100 * PIECE, 2));
    }
  })();
  await t.rejects(read, { code: 'ERR_OBJECT_CONFLICT' });
});

t.test('calls of one MemCloud do not get in each other’s way', async (t) => {
  const { cloud } = await single(t);
  const work = Array.from({ length: 300 }, async (_, index) => {
    const value = crypto.randomBytes(index * 37);
    await cloud.set(`c${index}`, value);
    const [byGet, byStream] = await Promise.all([
      cloud.get(`c${index}`),
      collect(cloud.getStream(`c${index}`)),
    ]);
    return byGet.equals(value) && byStream.equals(value);
  });
  t.ok((await Promise.all(work)).every(Boolean));
});

t.test('without a daemon connect rejects, with one that comes back calls go on', async (t) => {
  const folder = labFolder(t);
  const nobody = new MemCloud(path.join(folder, 'none.sock'));
  await t.rejects(nobody.connect(), { code: 'ERR_DAEMON_UNREACHABLE' });
  await t.rejects(nobody.get('k'), { code: 'ERR_DAEMON_UNREACHABLE' });
  const first = await LabNode.start(t, { name: 'one', folder, offer: '64M' });
  const cloud = new MemCloud({ socketPath: first.socketPath });
  t.teardown(() => cloud.close());
  await cloud.set('k', '1');
  const events = cloud.events(['object']);
  const told = t.rejects(events.next(), { code: 'ERR_DAEMON_UNREACHABLE' }, 'a loop over events');
  await cloud.ping();
  await first.end('SIGKILL');
  await told;
  await t.rejects(cloud.get('k'), { code: 'ERR_DAEMON_UNREACHABLE' });
  await LabNode.start(t, { name: 'one', folder, offer: '64M' });
  await cloud.set('k', '2');
  t.equal((await cloud.get('k')).toString(), '2');
  cloud.close();
  await t.rejects(cloud.get('k'), { code: 'ERR_DAEMON_UNREACHABLE' });
  await cloud.connect();
  t.equal((await cloud.get('k')).toString(), '2', 'closed, and opened again');
});

t.test('signals and time-outs end any call', async (t) => {
  const folder = labFolder(t);
  const silent = net.createServer((socket) => socket.resume());
  const socketPath = path.join(folder, 'silent.sock');
  await new Promise<void>((resolve) => silent.listen(socketPath, resolve));
  t.teardown(() => silent.close());
  const cloud = new MemCloud({ socketPath, timeoutMs: 100 });
  t.teardown(() => cloud.close());
  await t.rejects(cloud.connect(), { code: 'ERR_TIMEOUT' });
  await t.rejects(cloud.stats({ timeoutMs: 20 }), { code: 'ERR_TIMEOUT' });
  const signal = AbortSignal.timeout(20);
  await t.rejects(cloud.get('k', { signal, timeoutMs: 10_000 }), { code: 'ERR_CANCELLED' });
});

t.test('events tell what changes, until the signal', async (t) => {
  const { cloud } = await single(t);
  const controller = new AbortController();
  const got: MemCloudEvent[] = [];
  const loop = (async () => {
    for await (const event of cloud.events(['object', 'volume'], { signal: controller.signal })) {
      got.push(event);
    }
  })();
  await eventually('an event', async () => {
    await cloud.set('k', `${got.length} ${performance.now()}`);
    return got.some(({ topic }) => topic === 'object');
  });
  controller.abort();
  await loop;
  t.match(got[0], { topic: 'object', name: 'here', lost: 0 });
  await t.rejects(cloud.stats({ signal: AbortSignal.abort() }), { code: 'ERR_CANCELLED' });
});

t.test('loopback with a token, and what is refused before anything is sent', async (t) => {
  const folder = labFolder(t);
  const probe = net.createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as net.AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  await LabNode.start(t, {
    ...{ name: 'one', folder, offer: '64M' },
    env: { MEMCLOUD_RPC_TCP: `127.0.0.1:${port}` },
  });
  const token = fs.readFileSync(path.join(folder, 'one/rpc-token'), 'utf8').trim();
  const cloud = new MemCloud({ tcpHost: '127.0.0.1', tcpPort: port, token });
  t.teardown(() => cloud.close());
  await cloud.connect();
  const value = crypto.randomBytes(1_000_000);
  await cloud.set('k', value);
  t.ok((await cloud.get('k')).equals(value));
  const before = process.env['MEMCLOUD_TOKEN'];
  process.env['MEMCLOUD_TOKEN'] = token;
  t.teardown(() => {
    if (before === undefined) delete process.env['MEMCLOUD_TOKEN'];
    else process.env['MEMCLOUD_TOKEN'] = before;
  });
  const byPort = new MemCloud(port);
  t.equal(
    (await byPort.get('k')).length,
    1_000_000,
    'a port alone, the token from the environment',
  );
  byPort.close();
  const wrong = new MemCloud({ tcpPort: port, token: 'x' });
  await t.rejects(wrong.connect(), { code: 'ERR_RPC_DENIED' });
  await t.rejects(new MemCloud({ tcpPort: port, tcpHost: '10.0.0.1', token }).connect(), {
    code: 'ERR_USAGE',
    message: /loopback/,
  });
  await t.rejects(new MemCloud({ tcpPort: 0, token }).connect(), { code: 'ERR_USAGE' });
});

t.test('peers are told as text and in full, and values go where they are sent', async (t) => {
  const { providers, consumer } = await lab(t, 2);
  const cloud = new MemCloud(consumer.socketPath);
  t.teardown(() => cloud.close());
  await cloud.connect();
  const rows = await cloud.peers();
  t.equal(rows.length, 2);
  const alpha = rows.find((row) => row.includes('(alpha)')) ?? '';
  const { nodeId = '' } = providers[0] ?? {};
  t.match(alpha, /^[0-9a-f]+ \(alpha\) @ 127\.0\.0\.1:\d+$/);
  for (const target of ['alpha', nodeId, alpha]) {
    const handle = await cloud.store('for a neighbour', target);
    t.equal(handle.object.holderName, 'alpha', target);
    t.equal((await cloud.load(handle.id)).toString(), 'for a neighbour');
  }
  const value = crypto.randomBytes(2_000_000);
  const stream = await cloud.storeStream(Readable.from(cut(value, 10_000)), { target: alpha });
  t.equal(stream.object.holderName, 'alpha');
  t.ok((await cloud.load(stream)).equals(value));
  await cloud.set('there', 'x', { remote: true });
  t.equal((await cloud.get('there')).toString(), 'x', 'found without being told where');
  t.ok((await cloud.keys('th*')).includes('there'));
  t.equal((await cloud.peerInfos()).length, 2);
  t.same(await cloud.volumes(), []);
  t.match(await cloud.stats(), { peers: { up: 2, known: 2 } });
  await t.rejects(cloud.store('x', 'nobody-here'), { code: 'ERR_PEER_UNKNOWN' });
});
