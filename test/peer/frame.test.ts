import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import {
  emptyRecordLayout,
  encodeHandshakeFrame,
  handshakeFrameSize,
  readRecordLayout,
  writeRecordLengths,
} from '../../peer/frame.ts';

t.test('a handshake frame is a big-endian length and the message', async (t) => {
  t.same(encodeHandshakeFrame(Uint8Array.of(7, 8, 9)), Buffer.from([0, 3, 7, 8, 9]));
});

t.test('a handshake frame is taken when it is whole', async (t) => {
  const frame = Buffer.from([0xff, 0, 3, 7, 8, 9, 1]);
  t.equal(handshakeFrameSize(frame, 1, 1), 0);
  t.equal(handshakeFrameSize(frame, 1, 2), 0);
  t.equal(handshakeFrameSize(frame, 1, 5), 0);
  t.equal(handshakeFrameSize(frame, 1, 6), 5);
  t.equal(handshakeFrameSize(frame, 1, 7), 5);
});

for (const [length, allowed] of [
  [0, false],
  [1, true],
  [1023, true],
  [1024, true],
  [1025, false],
  [65535, false],
] as const) {
  t.test(
    `a handshake length of ${length} is ${allowed ? 'taken' : 'refused at once'}`,
    async (t) => {
      const frame = Buffer.alloc(2);
      frame.writeUInt16BE(length);
      const read = (): number => handshakeFrameSize(frame, 0, 2);
      if (allowed) t.equal(read(), 0);
      else t.throws(read, { code: 'ERR_PEER_HANDSHAKE' });
    },
  );
}

function layoutOf(size: number, head: number, available: number): [boolean, object] {
  const bytes = new DataView(new ArrayBuffer(16));
  bytes.setUint32(4, size - 4, true);
  bytes.setUint32(8, head, true);
  const layout = emptyRecordLayout();
  return [readRecordLayout(bytes, 4, 4 + available, layout), layout];
}

t.test('a record shorter than its lengths waits', async (t) => {
  for (let available = 0; available < 8; available += 1)
    t.equal(layoutOf(40, 16, available)[0], false);
});

for (const [name, size, head, pages] of [
  ['the smallest record', 40, 16, 0],
  ['one page', 24 + 16 + 4112, 16, 4112],
  ['the largest head', 24 + 65536, 65536, 0],
  ['64 pages', 24 + 24 + 64 * 4112, 24, 64 * 4112],
] as const) {
  t.test(`${name} is laid out`, async (t) => {
    const [whole, layout] = layoutOf(size, head, size);
    t.equal(whole, true);
    t.same(layout, { size, headLength: head, pagesLength: pages });
    t.equal(layoutOf(size, head, size - 1)[0], false);
  });
}

for (const [name, size, head] of [
  ['shorter than a message', 39, 15],
  ['over 2 MiB', 2097153, 65536],
  ['length zero', 4, 0],
  ['the largest length', 2 ** 32 + 3, 16],
  ['a head of 8', 32, 8],
  ['a head over 64 KiB', 24 + 65544, 65544],
  ['a head that is no multiple of 8', 24 + 20, 20],
  ['a head longer than the record', 40, 24],
  ['a head of 2^32 - 8', 40, 2 ** 32 - 8],
  ['part of a page', 24 + 16 + 4111, 16],
  ['pages and a byte', 24 + 16 + 4113, 16],
] as const) {
  t.test(`a record with ${name} is refused on its lengths`, async (t) => {
    t.throws(() => layoutOf(size, head, 8), { code: 'ERR_PEER_PROTOCOL' });
  });
}

t.test('lengths are little endian, and count what follows the first', async (t) => {
  const memory = new NativeMemory(16);
  t.equal(writeRecordLengths(memory, 3, 4112, 24), 8 + 4112 + 24 + 16);
  t.same([...memory.bytes.subarray(3, 11)], [0x3c, 0x10, 0, 0, 24, 0, 0, 0]);
  memory.free();
});
