/**
 * What objects take in real daemons, and that it comes back: overwrites, evictions, streams, readers that do
 * not read, replies that are never lost. Section 4 of the faults of MemCloud in Rust (docs/memcloud-faults.md).
 */
import fs from 'node:fs';
import net from 'node:net';
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { encodeRpcMessage } from '../../common/rpc-codec.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { MemCloud } from '../../sdk/memcloud.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';

const KIB = 1024;
const MIB = 2 ** 20;
const PIECE = 48 * KIB;

interface Seat {
  node: LabNode;
  client: MemcloudClient;
}

/** A holder, and a node whose peer it is. */
async function duo(t: Test, offer: string): Promise<Record<'holder' | 'local', Seat>> {
  const folder = labFolder(t);
  const seat = async (node: LabNode): Promise<Seat> => {
    const client = await MemcloudClient.connect(node.socketPath);
    t.teardown(() => client.close());
    return { node, client };
  };
  const holder = await LabNode.start(t, { name: 'holder', folder, offer });
  const connect = [holder.peerAddress];
  const local = await LabNode.start(t, { name: 'local', folder, offer: '8M', connect });
  await Promise.all([holder.waitForPeers(1), local.waitForPeers(1)]);
  return { holder: await seat(holder), local: await seat(local) };
}

/** What a node has lent and what of it lies in RAM, by its own word. */
async function usage({ client }: Seat): Promise<{ usedBytes: number; residentBytes: number }> {
  const { usedBytes, residentBytes } = (await client.call('status', {})).provider.usage;
  return { usedBytes, residentBytes };
}

/** Resident bytes of a daemon's process but for what it keeps in tmpfs, by the kernel's word. */
function privateBytes({ node }: Seat): number {
  const status = fs.readFileSync(`/proc/${node.child.pid}/status`, 'utf8');
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * KIB;
}

/** Calls `work` for 0 to `count`, 32 at once. */
async function many(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < count) {
      next += 1;
      await work(next - 1);
    }
  };
  await Promise.all(Array.from({ length: 32 }, one));
}

for (const where of ['here', 'on a peer'] as const) {
  t.test(`one key overwritten 30 000 times ${where} takes what it took before`, async (t) => {
    const { holder, local } = await duo(t, '8M');
    const [at, peer] = where === 'here' ? [local, undefined] : [holder, 'holder'];
    const before = await usage(at);
    const value = randomBytes(8 * KIB);
    // Sizes that change have other slots each time; 30 000 of them are 25 times what is offered.
    const put = (index: number): Promise<unknown> =>
      local.client.call('object.put', {
        ...{ key: 'the one', peer, data: value.subarray(0, 8 * KIB - (index % 4096)) },
        ...(index % 3 === 0 ? { mode: 'cache', ttlMs: 600_000 } : {}),
      });
    const last = async (): Promise<unknown> => put(0);
    await many(3000, put);
    await last();
    const warm = { ...(await usage(at)), privateBytes: privateBytes(at) };
    await many(30_000, put);
    await last();
    const after = { ...(await usage(at)), privateBytes: privateBytes(at) };
    t.equal(after.usedBytes, warm.usedBytes, 'to the byte');
    t.ok(after.usedBytes - before.usedBytes < 9 * KIB, `${after.usedBytes - before.usedBytes}`);
    const resident = after.residentBytes - warm.residentBytes;
    t.ok(resident < MIB, `${resident} more bytes of RAM for values`);
    // What is not collected yet goes with more of the same; what leaked grows.
    let grown = Infinity;
    await eventually('the daemon is as large as before', async () => {
      grown = (privateBytes(at) - warm.privateBytes) / MIB;
      if (grown >= 48) await many(3000, put);
      return grown < 48;
    });
    t.comment(`the daemon grew by ${grown.toFixed(1)} MiB`);
    const listed = await local.client.call('object.list', peer === undefined ? {} : { peer });
    t.same(
      listed.objects.map(({ key }) => key),
      ['the one'],
    );
    t.match(await local.client.call('object.delete', { key: 'the one' }), { deleted: true });
    t.equal((await usage(at)).usedBytes, before.usedBytes, 'and nothing is left');
  });
}

t.test('a key whose value was evicted, deleted or has ended is not listed any more', async (t) => {
  const { local, holder } = await duo(t, '8M');
  const { client } = local;
  const data = randomBytes(PIECE);
  await client.call('object.put', { key: 'short', peer: 'holder', data, ttlMs: 1 });
  await client.call('object.put', { key: 'gone', peer: 'holder', data });
  await client.call('object.delete', { key: 'gone', peer: 'holder' });
  await many(400, (index) =>
    client.call('object.put', { key: `c${index}`, peer: 'holder', data, mode: 'cache' }),
  );
  const { objects } = await client.call('object.list', { peer: 'holder' });
  const listed = new Set(objects.map(({ key }) => key));
  t.ok(listed.size > 100 && listed.size < 180, `${listed.size} of 400 fit`);
  const names = ['short', 'gone', ...Array.from({ length: 400 }, (_, index) => `c${index}`)];
  for (const key of names) {
    const { found } = await client.call('object.get', { key, peer: 'holder', length: 1 });
    if (found !== listed.has(key)) t.fail(`${key}: listed ${listed.has(key)}, found ${found}`);
  }
  const { evictedCount } = (await holder.client.call('stats', {})).objectCounters;
  t.equal(evictedCount, 400 - listed.size);
  await client.call('object.flush', { peer: 'holder' });
  t.same((await client.call('object.list', { peer: 'holder' })).objects, []);
});

t.test('a stream of 160 MiB passes through a daemon that stays as it was', async (t) => {
  const { holder, local } = await duo(t, '256M');
  const cloud = new MemCloud(local.node.socketPath);
  t.teardown(() => cloud.close());
  const before = { local: await usage(local), bytes: privateBytes(local) };
  const holderBefore = privateBytes(holder);
  let [most, mostOfHolder] = [0, 0];
  const look = (): void => {
    most = Math.max(most, privateBytes(local) - before.bytes);
    mostOfHolder = Math.max(mostOfHolder, privateBytes(holder) - holderBefore);
  };
  const timer = setInterval(look, 20);
  t.teardown(() => clearInterval(timer));
  const piece = randomBytes(MIB);
  const pieces = function* (): Generator<Buffer> {
    for (let index = 0; index < 160; index += 1) {
      piece.writeUInt32LE(index, 0);
      yield Buffer.from(piece);
    }
  };
  const handle = await cloud.storeStream(pieces(), { target: 'holder' });
  t.ok((await usage(holder)).usedBytes >= 160 * MIB, 'its holder counts it');
  t.same(await usage(local), before.local, 'and the daemon that it went through nothing');
  let at = 0;
  let wrong = 0;
  let held = Buffer.alloc(0);
  for await (const chunk of cloud.loadStream(handle)) {
    held = Buffer.concat([held, chunk as Buffer]);
    for (; held.length >= MIB; held = held.subarray(MIB)) {
      piece.writeUInt32LE(at, 0);
      if (!piece.equals(held.subarray(0, MIB))) wrong += 1;
      at += 1;
    }
  }
  look();
  t.same({ at, wrong }, { at: 160, wrong: 0 });
  t.ok(most < 64 * MIB, `the local daemon grew by ${(most / MIB).toFixed(0)} MiB at most`);
  t.ok(
    mostOfHolder < 64 * MIB,
    `the holder by ${(mostOfHolder / MIB).toFixed(0)} MiB beyond values`,
  );
});

t.test('a size that cannot be is refused at once, and nothing is set aside for it', async (t) => {
  const { holder, local } = await duo(t, '8M');
  const before = await usage(holder);
  const refused = async (sizeHint: number): Promise<void> => {
    const startMs = performance.now();
    await t.rejects(local.client.call('object.begin', { key: 'k', peer: 'holder', sizeHint }), {
      code: 'ERR_LEASE_CAPACITY',
    });
    t.ok(performance.now() - startMs < 2000, 'without waiting for anything');
  };
  // A first call has costs of its own, whatever it asks for.
  await refused(16 * MIB);
  const bytes = privateBytes(local);
  for (const sizeHint of [16 * MIB, 2 ** 32 + 1, 2 ** 52]) await refused(sizeHint);
  t.same(await usage(holder), before);
  const grown = privateBytes(local) - bytes;
  t.ok(grown < 16 * MIB, `the daemon grew by ${Math.round(grown / MIB)} MiB`);
});

t.test('a client that asks for 240 MiB and never reads holds a bounded part of it', async (t) => {
  const { local } = await duo(t, '64M');
  const data = randomBytes(PIECE);
  await local.client.call('object.put', { key: 'k', peer: 'holder', data });
  const before = privateBytes(local);
  const socket = net.connect(local.node.socketPath);
  t.teardown(() => socket.destroy());
  socket.pause();
  for (let id = 1; id <= 5000; id += 1) {
    socket.write(encodeRpcMessage({ id, method: 'object.get', params: { key: 'k' } }));
  }
  let most = 0;
  for (let looks = 0; looks < 40; looks += 1) {
    await pause(50);
    most = Math.max(most, privateBytes(local) - before);
  }
  t.ok(most < 64 * MIB, `the daemon grew by ${(most / MIB).toFixed(0)} MiB at most`);
  const { found } = await local.client.call('object.get', { key: 'k' });
  t.ok(found, 'others are served');
});

t.test('5000 replies that come at once are all heard, and a refusal is one of them', async (t) => {
  const { local } = await duo(t, '8M');
  const { client } = local;
  await client.call('object.put', { key: 'k', peer: 'holder', data: Buffer.from('v') });
  let times: number[] = [];
  const timed = async (work: () => Promise<unknown>): Promise<void> => {
    const startMs = performance.now();
    await work();
    times.push(performance.now() - startMs);
  };
  const noneWasLost = (what: string): void => {
    times.sort((a, b) => a - b);
    const [most = Infinity, slowest = Infinity] = [
      times[Math.floor(times.length * 0.99)],
      times.at(-1),
    ];
    t.ok(most < 500, `${what}: 99 of 100 within ${most.toFixed(1)} ms`);
    // The deadline between nodes, after which a lost one would be told of.
    t.ok(slowest < 4000, `${what}: the slowest took ${slowest.toFixed(0)} ms`);
    times = [];
  };
  for (let count = 0; count < 1000; count += 1) {
    await timed(() => client.call('object.get', { key: 'k' }));
    await timed(() => client.call('object.get', { key: 'nobody has it' }));
    await timed(() => client.call('object.get', { id: '7' }));
    await timed(() => client.call('object.put', { key: 'k', peer: 'holder', data: Buffer.of(1) }));
    await timed(() => client.call('object.delete', { key: 'nobody has it', peer: 'holder' }));
  }
  noneWasLost('replies');
  await many(170, (index) =>
    client
      .call('object.put', { key: `f${index}`, peer: 'holder', data: randomBytes(PIECE) })
      .catch(() => undefined),
  );
  times = [];
  for (let count = 0; count < 50; count += 1) {
    const refusal = client.call('object.put', {
      key: 'x',
      peer: 'holder',
      data: randomBytes(PIECE),
    });
    await timed(() => t.rejects(refusal, { code: 'ERR_LEASE_CAPACITY' }));
  }
  noneWasLost('refusals');
});

t.test('a value that takes longer to come than a call may take comes all the same', async (t) => {
  const { local } = await duo(t, '64M');
  const cloud = new MemCloud({ socketPath: local.node.socketPath, timeoutMs: 1000 });
  t.teardown(() => cloud.close());
  const value = randomBytes(100 * PIECE);
  const handle = await cloud.store(value, 'holder');
  const startMs = performance.now();
  const chunks: Buffer[] = [];
  for await (const chunk of cloud.loadStream(handle)) {
    chunks.push(Buffer.from(chunk as Buffer));
    await pause(25);
  }
  t.ok(performance.now() - startMs > 2000, 'longer than twice the time of a call');
  t.ok(Buffer.concat(chunks).equals(value));
});

t.test('what a node wrote is its own again after its daemon was killed', async (t) => {
  const { holder, local } = await duo(t, '64M');
  const block = await local.client.call('object.put', { peer: 'holder', data: Buffer.from('b') });
  await local.client.call('object.put', { key: 'k', peer: 'holder', data: Buffer.from('v') });
  const { usedBytes } = await usage(holder);
  await local.node.end('SIGKILL');
  const again = await LabNode.start(t, {
    ...{ name: 'local', folder: local.node.socketPath.replace(/\/[^/]+$/, '') },
    connect: [holder.node.peerAddress],
  });
  t.equal(again.nodeId, local.node.nodeId);
  await again.waitForPeers(1);
  await again.use(async (client) => {
    const found = await client.call('object.get', { id: block.id! });
    t.equal(Buffer.from(found.data).toString(), 'b', 'the id of a block says where it is');
    t.match(await client.call('object.get', { key: 'k' }), { found: true });
    t.equal((await usage(holder)).usedBytes, usedBytes, 'charged as before');
    t.match(await client.call('object.delete', { id: block.id! }), { deleted: true });
    t.match(await client.call('object.delete', { key: 'k', peer: 'holder' }), { deleted: true });
  });
  await holder.node.end('SIGKILL');
  await again.use(async (client) => {
    await eventually('the holder is gone', async () => {
      const peers = await client.call('peer.list', {});
      return peers.every(({ state }) => state !== 'up');
    });
    const startMs = performance.now();
    await t.rejects(client.call('object.get', { id: block.id! }), { code: 'ERR_PEER_UNREACHABLE' });
    t.ok(performance.now() - startMs < 2000, 'said at once');
  });
});
