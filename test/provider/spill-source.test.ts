/** The spill file: a nameless file, in order, within its bound, gone at the end. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import { IoStatus, type IoStatusValue, type PageCompletionSink } from '../../common/ports.ts';
import { SpillSource } from '../../provider/spill-source.ts';
import { smallTmpfs } from '../helpers/tmpfs.ts';

const SEALED = 4112;
const SLAB = 4096 * 4096;

/** Collects the ends of calls. */
class Ends implements PageCompletionSink {
  readonly statuses = new Map<number, IoStatusValue>();
  readonly firstBytes = new Map<number, number>();
  credits = 0;
  #wake: (() => void) | undefined;

  onPagesRead(tag: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void {
    this.firstBytes.set(tag, pages.bytes[offset] ?? -1);
    this.onPagesDone(tag, status);
  }

  onPagesDone(tag: number, status: IoStatusValue): void {
    if (this.statuses.has(tag)) throw new Error(`call ${tag} ended twice`);
    this.statuses.set(tag, status);
    this.#wake?.();
  }

  onCredit(): void {
    this.credits += 1;
  }

  async until(count: number): Promise<void> {
    while (this.statuses.size < count) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

function folderOf(t: Test): string {
  return t.testdir({});
}

/** Descriptors of this process that lead to a deleted file of the folder. */
function namelessFiles(folder: string): string[] {
  return fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = fs.readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(folder) && target.endsWith('(deleted)') ? [target] : [];
    } catch {
      return [];
    }
  });
}

t.test('pages come back as they were written, calls in order', async (t) => {
  const folder = folderOf(t);
  const source = new SpillSource(folder, 2 * SLAB);
  t.same(fs.readdirSync(folder), [], 'the file has no name');
  t.equal(namelessFiles(folder).length, 1);
  const { slabHandle, leaseId } = await source.lease({ pageCount: 4096, ttlMs: 1000 });
  t.equal(source.usage.leaseCount, 1);
  const ends = new Ends();
  const queue = source.openPageQueue(ends);
  const pages = new NativeMemory(2 * SEALED);
  for (let tag = 0; tag < 8; tag += 2) {
    pages.bytes.fill(tag + 1);
    t.ok(queue.writePages(tag, slabHandle, 4094, 2, pages, 0));
    t.ok(queue.readPages(tag + 1, slabHandle, 4094, 2));
  }
  pages.bytes.fill(0xff);
  await ends.until(8);
  t.ok([...ends.statuses.values()].every((status) => status === IoStatus.OK));
  t.same(
    [1, 3, 5, 7].map((tag) => ends.firstBytes.get(tag)),
    [1, 3, 5, 7],
  );
  t.ok(queue.trimPages(8, slabHandle, 4094, 1) && queue.readPages(9, slabHandle, 4094, 1));
  await ends.until(10);
  t.equal(ends.firstBytes.get(9), 0);
  await source.release(leaseId);
  t.ok(queue.readPages(10, slabHandle, 0, 1));
  await ends.until(11);
  t.equal(ends.statuses.get(10), IoStatus.NO_LEASE);
  queue.close();
  source.close();
  t.equal(namelessFiles(folder).length, 0);
  t.equal(queue.readPages(11, slabHandle, 0, 1), false);
});

t.test('more calls than it holds are refused, and credit follows', async (t) => {
  const source = new SpillSource(folderOf(t), SLAB);
  const { slabHandle } = await source.lease({ pageCount: 4096, ttlMs: 1000 });
  const ends = new Ends();
  const queue = source.openPageQueue(ends);
  let taken = 0;
  while (queue.readPages(taken, slabHandle, taken, 1)) taken += 1;
  t.equal(taken, 16);
  await ends.until(16);
  t.equal(ends.credits, 1);
  t.ok(queue.readPages(100, slabHandle, 0, 1));
  queue.close();
  await ends.until(17);
  t.equal(ends.statuses.get(100), IoStatus.SHUTDOWN);
  source.close();
});

t.test('it holds no more than it may', async (t) => {
  const source = new SpillSource(folderOf(t), SLAB + 1);
  await source.lease({ pageCount: 4096, ttlMs: 1000 });
  await source.lease({ pageCount: 10, ttlMs: 1000 });
  await t.rejects(source.lease({ pageCount: 1, ttlMs: 1000 }), { code: 'ERR_LEASE_CAPACITY' });
  t.same(await source.renew(['0', '1', '7']), ['7']);
  source.close();
  await t.rejects(source.lease({ pageCount: 1, ttlMs: 1000 }), { code: 'ERR_LEASE_CAPACITY' });
});

t.test('a disk that is full refuses writes, and goes on', async (t) => {
  const folder = smallTmpfs(t, 2 ** 20);
  if (folder === undefined) {
    t.comment('skipped: no right to mount');
    return;
  }
  const source = new SpillSource(folder, SLAB);
  const { slabHandle } = await source.lease({ pageCount: 4096, ttlMs: 1000 });
  const ends = new Ends();
  const queue = source.openPageQueue(ends);
  const pages = new NativeMemory(64 * SEALED);
  pages.bytes.fill(7);
  for (let tag = 0; tag < 8; tag += 1) {
    t.ok(queue.writePages(tag, slabHandle, 64 * tag, 64, pages, 0));
  }
  await ends.until(8);
  t.equal(ends.statuses.get(0), IoStatus.OK);
  t.equal(ends.statuses.get(7), IoStatus.NO_SPACE);
  t.ok(queue.readPages(8, slabHandle, 0, 1));
  await ends.until(9);
  t.equal(ends.firstBytes.get(8), 7);
  queue.close();
  source.close();
});

t.test('what cannot be a spill file is refused in a sentence', (t) => {
  const folder = folderOf(t);
  const file = path.join(folder, 'there');
  fs.writeFileSync(file, 'precious');
  t.throws(() => new SpillSource(file, SLAB), { code: 'ERR_USAGE', message: /it exists/ });
  t.equal(fs.readFileSync(file, 'utf8'), 'precious');
  t.throws(() => new SpillSource(path.join(folder, 'no', 'where'), SLAB), { message: /ENOENT/ });
  t.throws(() => new SpillSource(folder, 0), { code: 'ERR_USAGE', message: /spill size/ });
  t.end();
});
