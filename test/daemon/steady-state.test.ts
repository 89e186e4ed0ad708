/**
 * The data path of two real processes makes next to nothing per page: a coarse bound on their
 * garbage collections, with requests as the kernel sends them when it swaps. The figures are those of
 * `npm run bench -- --only steady-state`; this only notices when something grows by an object a page.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import t from 'tap';
import type { GarbageCollectionInfo } from '../../common/rpc-process.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { LabNode, labFolder } from '../helpers/lab-node.ts';

const MIB = 2 ** 20;
const PAGE = 4096;
const DISK = 64 * MIB;
const WARM_UP_PAGES = 49_152;
const PAGES = 98_304;
/**
 * The young heap is 16 MiB from the start, so a collection is 16 MiB of garbage. At 100 bytes a page,
 * which is what boxed addresses and the sockets of Node cost, 98304 pages make less than one.
 */
const NODE_OPTIONS = ['--min-semi-space-size=16', '--max-semi-space-size=16'];
const COLLECTIONS_MAX = 2;
const OLD_HEAP_GROWTH_MAX = 4 * MIB;
const DEPTH = 16;

t.test('a hundred thousand pages each way', async (t) => {
  const folder = labFolder(t);
  const common = { folder, nodeOptions: NODE_OPTIONS };
  const provider = await LabNode.start(t, { ...common, name: 'provider', offer: '256M' });
  const connect = [provider.peerAddress];
  const consumer = await LabNode.start(t, { ...common, name: 'consumer', connect });
  await consumer.waitForPeers(1);
  const unixPath = path.join(folder, 'disk.sock');
  await consumer.use(async (client) => {
    await client.call('volume.create', { name: 'disk', sizeBytes: DISK, copies: 1 });
    await client.call('nbd.serve', { name: 'disk', unixPath });
  });
  const nbd = await NbdClient.connect({ path: unixPath }, { exportName: 'disk' });
  t.teardown(() => nbd.close());
  const random = randomBytes(8 * MIB);
  const into = Array.from({ length: DEPTH }, () => Buffer.alloc(32_768));

  const load = async (size: number, pages: number, write: boolean): Promise<void> => {
    const count = (pages * PAGE) / size;
    let next = 0;
    const worker = async (_: unknown, id: number): Promise<void> => {
      for (let at = next++; at < count; at = next++) {
        const offset = (at * size) % DISK;
        // Other bytes each time: a page that is the same as before would be stored all the same,
        // one that is filled with one word would not travel.
        const from = (at * 7919 * 16) % (random.length - size);
        if (write) await nbd.write(offset, random.subarray(from, from + size));
        else await nbd.readInto(offset, into[id] ?? Buffer.alloc(size));
      }
    };
    await Promise.all(Array.from({ length: DEPTH }, worker));
    if (write) await nbd.flush();
  };
  const collected = (node: LabNode): Promise<GarbageCollectionInfo> =>
    node.use(async (client) => (await client.call('status', {})).garbageCollection);

  for (const [what, size, write] of [
    ['writes of 128 KiB', 131_072, true],
    ['reads of 32 KiB', 32_768, false],
  ] as const) {
    await load(size, WARM_UP_PAGES, write);
    const before = await Promise.all([consumer, provider].map(collected));
    await load(size, PAGES, write);
    const after = await Promise.all([consumer, provider].map(collected));
    for (const [index, { name }] of [consumer, provider].entries()) {
      const [first, last] = [before[index], after[index]];
      if (first === undefined || last === undefined) throw new Error('status: none came');
      const collections = last.count - first.count;
      const grown = last.oldHeapBytes - first.oldHeapBytes;
      t.comment(`${what}, ${name}: ${collections} collections, old heap ${grown} B`);
      t.ok(collections <= COLLECTIONS_MAX, `${what}, ${name}: ${collections} collections`);
      t.ok(grown < OLD_HEAP_GROWTH_MAX, `${what}, ${name}: the old heap grew by ${grown} B`);
    }
  }
  const { counters } = await consumer.use((client) =>
    client.call('volume.inspect', { name: 'disk' }),
  );
  t.ok((counters['pagesSent'] ?? 0) > PAGES, 'the pages did travel');
  t.ok((counters['pagesFetched'] ?? 0) > PAGES);
});
