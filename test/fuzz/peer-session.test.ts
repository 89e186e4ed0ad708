/**
 * The session machine against a peer that holds the right keys and says anything: heads of good
 * messages in any order, mutated, with any number of pages, split anywhere. The machine goes on or
 * throws the protocol's error; the slabs of others never change; whatever was asked of it ends once.
 */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { writeRecordLengths } from '../../peer/frame.ts';
import { MessageWriter } from '../../peer/messages.ts';
import type { ManageRequest } from '../../peer/managed-replies.ts';
import { RecordSealer } from '../../peer/record-cipher.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';
import { MemorySlabs } from '../helpers/memory-slabs.ts';
import { Side } from '../helpers/session-pair.ts';

const TYPES = [
  ...[1, 2, 3, 0x10, 0x20, 0x30, 0x40, 0x70, 0x71, 0x72, 0x73],
  ...[0x81, 0x82, 0x83, 0x90, 0xa0, 0xb0, 0xc0],
];
const BODIES = [0x20, 0xa0, 0x30, 0xb0, 0x40, 0xc0, 0x72];
/** Where ids of managed calls begin. */
const MANAGE_ID_BASE = 2 ** 30;
const staging = new NativeMemory(65536);
const memory = new NativeMemory(2 ** 21);
t.teardown(() => {
  staging.free();
  memory.free();
});

/** A head, good or not, and about as many pages as it needs. */
function randomHead(random: Random, handle: number): { head: Buffer; pageCount: number } {
  const writer = new MessageWriter(staging);
  let pageCount = 0;
  for (let count = 1 + random.below(6); count > 0; count -= 1) {
    // Mostly what is allowed, or nearly nothing would go on.
    const type =
      random.below(3) > 0 ? random.pick([1, 2, 3, 0x40, 0x81, 0x82, 0xc0]) : random.pick(TYPES);
    const generation = random.below(8) > 0 ? 1 : random.below(4);
    const slot = random.below(12);
    if (type <= 3) {
      const pages = 1 + random.below(random.below(8) > 0 ? 4 : 64);
      if (type === 2) pageCount += pages;
      const aux = random.below(4) > 0 ? handle : random.below(2 ** 32);
      writer.pages(type, aux, slot, generation, random.below(20), pages);
    } else if (type === 0x81) {
      const pages = random.below(8) > 0 ? 1 : random.below(4);
      pageCount += pages;
      writer.pages(type, pages > 0 ? 0 : 1, slot, generation, pages, 0);
    } else if (BODIES.includes(type)) {
      const base = type === 0xc0 && random.below(8) > 0 ? MANAGE_ID_BASE : 0;
      writer.body(
        type,
        type === 0x72 ? 0 : base + slot,
        type === 0x72 ? 0 : generation,
        random.bytes(random.below(40)),
      );
    } else {
      writer.plain(type, random.below(4) > 0 ? 0 : random.below(9), slot, generation);
    }
  }
  let head: Buffer = Buffer.from(staging.bytes.subarray(0, writer.length));
  if (random.below(6) === 0) {
    head = random.mutate(head);
    head = Buffer.concat([head, Buffer.alloc(16)]).subarray(0, Math.max(16, head.length & ~7));
  }
  if (random.below(12) === 0) pageCount += random.below(3);
  return { head, pageCount };
}

t.test('any authenticated records', async (t) => {
  await fuzz(t, (random) => {
    const slabs = new MemorySlabs(2 ** 24);
    const mine = slabs.book.add('peer', 16);
    const other = slabs.book.add('other', 16);
    other.memory.bytes.fill(0x5a);
    const open: ManageRequest[] = [];
    const side = new Side(1, 2, {
      access: slabs.openAccess('peer'),
      onManage: (request) => open.push(request),
    });
    const sealer = new RecordSealer(new Uint8Array(32).fill(2), 0);
    let asked = 0;
    for (; asked < 8; asked += 1) side.machine.requests.readPages(0, asked, 1, 0, 1);
    let calls = 0;
    for (let count = 0; count < 8; count += 1) {
      side.machine.managed.request(random.bytes(9), 100, () => (calls += 1));
    }
    side.flush();
    try {
      for (let round = 0; round < 20; round += 1) {
        const { head, pageCount } = randomHead(random, mine.handle);
        const pagesLength = pageCount * 4112;
        if (24 + pagesLength + head.length > 2 ** 21) continue;
        memory.bytes.set(head, 8 + pagesLength);
        const size = writeRecordLengths(memory, 0, pagesLength, head.length);
        sealer.seal(memory, 0, pagesLength, head.length);
        const record = memory.bytes.subarray(0, size);
        const cut = random.below(size);
        side.receive(record.subarray(0, cut));
        side.receive(record.subarray(cut));
        // Some are answered, whenever.
        for (const request of open.splice(0, random.below(4))) {
          side.machine.managedReplies.reply(request, random.bytes(random.below(300)));
        }
        if (side.machine.managedReplies.count > 64) throw new Error('more calls than allowed');
        side.flush();
        side.machine.tick(round * 100);
        side.flush();
      }
    } catch (error) {
      const code = error instanceof MemcloudError ? error.code : '';
      if (code !== 'ERR_PEER_PROTOCOL' && code !== 'ERR_PEER_AUTHENTICATION') throw error;
    }
    side.machine.end();
    if (calls !== 8) throw new Error(`managed calls ended: ${calls}`);
    const tags = side.seen.reads.map(({ tag }) => tag).sort((a, b) => a - b);
    if (tags.join() !== '0,1,2,3,4,5,6,7') throw new Error(`reads ended: ${tags.join()}`);
    if (!other.memory.bytes.subarray(0, 16 * 4112).every((byte) => byte === 0x5a)) {
      throw new Error('a slab of another changed');
    }
    sealer.destroy();
    side.free();
    slabs.free();
  });
});

t.test('any bytes without the key', async (t) => {
  await fuzz(
    t,
    (random) => {
      const side = new Side(1, 2);
      try {
        for (let round = 0; round < 10; round += 1) side.receive(random.bytes(random.below(2000)));
        throw new Error('noise was taken for records');
      } catch (error) {
        const code = error instanceof MemcloudError ? error.code : '';
        if (code !== 'ERR_PEER_PROTOCOL' && code !== 'ERR_PEER_AUTHENTICATION') throw error;
      }
      side.free();
    },
    0.5,
  );
});
