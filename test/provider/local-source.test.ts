/** The local source keeps the contract of PageQueue: ends later, once, in order, bounded. */
import t, { type Test } from 'tap';
import type { NativeBuffer } from '../../common/native-memory.ts';
import type { PageCompletionSink } from '../../common/ports.ts';
import { LocalSlabSource } from '../../provider/local-source.ts';
import { RamProvider } from '../../provider/service.ts';
import { pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';

const A = 'a'.repeat(32);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const tick = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

class Recorder implements PageCompletionSink {
  readonly ends: string[] = [];
  readonly bytes: number[] = [];
  onEnd: (() => void) | undefined;

  onPagesRead(tag: number, status: number, pages: NativeBuffer, offset: number): void {
    this.ends.push(`read ${tag} ${status}`);
    this.bytes.push(pages.bytes[offset] ?? -1);
    this.onEnd?.();
  }
  onPagesDone(tag: number, status: number): void {
    this.ends.push(`done ${tag} ${status}`);
    this.onEnd?.();
  }
  onCredit(): void {
    this.ends.push('credit');
  }
}

function openSource(t: Test) {
  const provider = RamProvider.open({
    offeredBytes: 64 * 2 ** 20,
    directory: tmpfsBase(t),
    noswap: 'off',
  });
  t.teardown(() => provider.close());
  const source = new LocalSlabSource({
    nodeId: A,
    nodeName: 'here',
    access: provider.openAccess(A),
    isUp: () => !provider.closed,
  });
  return { provider, source };
}

async function openQueue(t: Test) {
  const { provider, source } = openSource(t);
  const { slabHandle, leaseId } = await source.lease({ pageCount: 2048, ttlMs: 60_000 });
  const sink = new Recorder();
  const queue = source.openPageQueue(sink);
  t.teardown(() => queue.close());
  return { provider, source, slabHandle, leaseId, sink, queue };
}

t.test('control calls reject with the errors of the provider', async (t) => {
  const { provider, source } = openSource(t);
  t.match(source, { nodeId: A, nodeName: 'here', up: true });
  await t.rejects(source.lease({ pageCount: 0, ttlMs: 5000 }), { code: 'ERR_LEASE_INVALID' });
  await t.rejects(source.lease({ pageCount: 65_536, ttlMs: 5000 }), { code: 'ERR_LEASE_CAPACITY' });
  await t.rejects(source.release('0'.repeat(16)), { code: 'ERR_LEASE_UNKNOWN' });
  await t.rejects(source.renew([], 1), { code: 'ERR_LEASE_INVALID' });
  const { leaseId } = await source.lease({ pageCount: 16, ttlMs: 5000 });
  t.equal(source.usage.leaseCount, 1);
  t.strictSame(await source.renew([leaseId, 'x'], 5000), ['x']);
  await source.release(leaseId);
  t.equal(source.usage.leaseCount, 0);
  provider.close();
  t.equal(source.up, false);
});

t.test('ends come after the call, in order, within the tick', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  const page = pageBuffer(t, 1);
  page.bytes.fill(5);
  t.equal(queue.writePages(1, slabHandle, 0, 1, page, 0), true);
  page.bytes.fill(6);
  t.equal(queue.readPages(2, slabHandle, 0, 1), true);
  t.equal(queue.writePages(3, slabHandle, 0, 1, page, 0), true);
  t.equal(queue.readPages(4, slabHandle, 0, 1), true);
  t.equal(queue.trimPages(5, slabHandle, 0, 1), true);
  t.equal(queue.readPages(6, slabHandle, 0, 1), true);
  t.strictSame(sink.ends, []);
  await tick();
  t.strictSame(sink.ends, ['done 1 0', 'read 2 0', 'done 3 0', 'read 4 0', 'done 5 0', 'read 6 0']);
  t.strictSame(sink.bytes, [5, 6, 0], 'each read has what was there at its call');
});

t.test('tags up to 2^53 come back whole', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  queue.trimPages(9_007_199_254_740_991, slabHandle, 0, 1);
  await tick();
  t.strictSame(sink.ends, ['done 9007199254740991 0']);
});

t.test('errors of the provider end calls too', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  const page = pageBuffer(t, 1);
  queue.readPages(1, slabHandle, 2048, 1);
  queue.readPages(2, slabHandle, 0, 65);
  queue.readPages(3, slabHandle, 0, 0);
  queue.readPages(4, slabHandle + 1, 0, 1);
  queue.writePages(5, slabHandle + 1, 0, 1, page, 0);
  queue.trimPages(6, slabHandle, 2047, 2);
  await tick();
  t.strictSame(sink.ends, ['read 1 1', 'read 2 1', 'read 3 1', 'read 4 6', 'done 5 6', 'done 6 1']);
});

t.test('refuses at the bound of calls, then gives credit', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  for (let tag = 0; tag < 512; tag += 1) {
    if (!queue.trimPages(tag, slabHandle, 0, 1)) t.fail(`call ${tag} refused`);
  }
  t.equal(queue.trimPages(512, slabHandle, 0, 1), false);
  await tick();
  t.equal(sink.ends.length, 513);
  t.equal(sink.ends.at(-1), 'credit');
  t.equal(queue.trimPages(513, slabHandle, 0, 1), true);
  await tick();
  t.equal(sink.ends.at(-1), 'done 513 0');
});

t.test('refuses at the bound of pages read, then gives credit', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  for (let tag = 0; tag < 16; tag += 1) t.equal(queue.readPages(tag, slabHandle, 0, 64), true);
  t.equal(queue.readPages(16, slabHandle, 0, 1), false);
  t.equal(queue.trimPages(17, slabHandle, 0, 1), true, 'a call without pages still fits');
  await tick();
  t.equal(sink.ends.length, 18);
  t.equal(sink.ends.at(-1), 'credit');
});

t.test('calls made from an end keep their own pages and do not stop the event loop', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  const page = pageBuffer(t, 1);
  page.bytes.fill(1);
  queue.writePages(0, slabHandle, 0, 1, page, 0);
  let tag = 0;
  let running = true;
  sink.onEnd = () => {
    if (running) queue.readPages((tag += 1), slabHandle, 0, 1);
  };
  await turn();
  await turn();
  await turn();
  running = false;
  await turn();
  t.equal(sink.ends.length, tag + 1, 'every call ended once');
  t.equal(tag >= 3, true);
  t.ok(sink.bytes.every((byte) => byte === 1));
});

t.test('close ends calls in flight with SHUTDOWN and takes no more', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  queue.readPages(1, slabHandle, 0, 1);
  queue.trimPages(2, slabHandle, 0, 1);
  queue.close();
  queue.close();
  t.equal(queue.trimPages(3, slabHandle, 0, 1), false);
  await tick();
  t.strictSame(sink.ends, ['read 1 5', 'done 2 5']);
});

t.test('close from inside an end shuts the rest of the batch down', async (t) => {
  const { queue, sink, slabHandle } = await openQueue(t);
  queue.trimPages(1, slabHandle, 0, 1);
  queue.readPages(2, slabHandle, 0, 1);
  sink.onEnd = () => queue.close();
  await tick();
  t.strictSame(sink.ends, ['done 1 0', 'read 2 5']);
});

t.test('a source whose provider closed takes no calls', async (t) => {
  const { provider, queue, sink, slabHandle } = await openQueue(t);
  queue.trimPages(1, slabHandle, 0, 1);
  provider.close();
  t.equal(queue.readPages(2, slabHandle, 0, 1), false);
  t.equal(queue.writePages(3, slabHandle, 0, 1, pageBuffer(t, 1), 0), false);
  await tick();
  t.strictSame(sink.ends, ['done 1 0']);
});

t.test('an ended lease answers NO_LEASE', async (t) => {
  const { source, queue, sink, slabHandle, leaseId } = await openQueue(t);
  await source.release(leaseId);
  queue.readPages(1, slabHandle, 0, 1);
  await tick();
  t.strictSame(sink.ends, ['read 1 6']);
});
