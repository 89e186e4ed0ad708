import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { MessageCursor, MessageWriter, paddedLength } from '../../peer/messages.ts';

function cursorOver(hex: string): MessageCursor {
  const bytes = Buffer.from(hex.replace(/[^0-9a-f]/g, ''), 'hex');
  const cursor = new MessageCursor();
  cursor.reset(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length);
  return cursor;
}

function written(write: (writer: MessageWriter) => void): string {
  const memory = new NativeMemory(65536);
  memory.bytes.fill(0xaa);
  const writer = new MessageWriter(memory);
  write(writer);
  const hex = memory.bytes.subarray(0, writer.length).toString('hex');
  memory.free();
  return hex;
}

const READ = '01 00 0800 78563412 05000000 09000000 0a000000 40000000';

t.test('a READ has these bytes', async (t) => {
  const hex = written((writer) => writer.pages(0x01, 0x12345678, 5, 9, 10, 64));
  t.equal(hex, READ.replaceAll(' ', ''));
  const cursor = cursorOver(READ);
  t.ok(cursor.next());
  t.match(cursor, { type: 1, aux: 0x12345678, idLow: 5, idHigh: 9, firstPage: 10, pageCount: 64 });
  t.notOk(cursor.next());
});

t.test('a reply without a body has these bytes', async (t) => {
  const hex = written((writer) => writer.plain(0x82, 6, 0xffffffff, 0x80000000));
  t.equal(hex, '8200000006000000ffffffff00000080');
  const cursor = cursorOver(hex);
  t.ok(cursor.next());
  t.match(cursor, { type: 0x82, aux: 6, idLow: 0xffffffff, idHigh: 0x80000000, bodyLength: 0 });
});

t.test('a body is padded with zeroes to 8', async (t) => {
  const hex = written((writer) => writer.body(0x20, 1, 2, Uint8Array.of(1, 2, 3)));
  t.equal(hex, '20000300000000000100000002000000' + '0102030000000000');
  const cursor = cursorOver(hex);
  t.ok(cursor.next());
  t.match(cursor, { type: 0x20, bodyOffset: 16, bodyLength: 3 });
  for (const [length, padded] of [
    [0, 0],
    [1, 8],
    [7, 8],
    [8, 8],
    [9, 16],
  ] as const) {
    t.equal(paddedLength(length), padded);
  }
});

t.test('MANAGE and MANAGE_REPLY have these bytes', async (t) => {
  for (const [type, first] of [
    [0x40, '40'],
    [0xc0, 'c0'],
  ] as const) {
    const hex = written((writer) => writer.body(type, 0x40000003, 7, Uint8Array.of(0x7b, 0x7d)));
    t.equal(hex, `${first}000200000000000300004007000000` + '7b7d000000000000');
    const cursor = cursorOver(hex);
    t.ok(cursor.next());
    t.match(cursor, { type, aux: 0, idLow: 0x40000003, idHigh: 7, bodyLength: 2 });
  }
});

t.test('the longest body passes, one byte more does not', async (t) => {
  const long = written((writer) => writer.body(0x20, 0, 1, new Uint8Array(60000)));
  t.ok(cursorOver(long).next());
  const tooLong = Buffer.alloc(16 + 60008);
  tooLong.writeUInt8(0x20, 0);
  tooLong.writeUInt16LE(60001, 2);
  t.throws(() => cursorOver(tooLong.toString('hex')).next(), { code: 'ERR_PEER_PROTOCOL' });
});

t.test('several messages follow each other', async (t) => {
  const cursor = cursorOver(`${READ} 10000000000000000700000000000000`);
  t.ok(cursor.next());
  t.ok(cursor.next());
  t.match(cursor, { type: 0x10, idLow: 7 });
  t.notOk(cursor.next());
});

const REFUSED: Record<string, string> = {
  'a header cut off': '0100080000000000',
  'a body cut off': '01000800 00000000 0000000000000000',
  'an unknown type': '04000000 00000000 0000000000000000',
  'type 0': '00000000 00000000 0000000000000000',
  flags: '10010000 00000000 0000000000000000',
  'a PING with a body': '10000800 00000000 0000000000000000 0000000000000000',
  'a READ without a body': '01000000 00000000 0000000000000000',
  'a READ of 0 pages': '01000800 00000000 0000000000000000 0000000000000000',
  'a READ of 65 pages': '01000800 00000000 0000000000000000 0000000041000000',
  'a WRITE of 2^32-1 pages': '02000800 00000000 0000000000000000 00000000ffffffff',
  'a TRIM of 0 pages': '03000800 00000000 0000000000000000 0000000000000000',
  'padding that is not zero': '20000300 00000000 0000000000000000 0102030000000001',
  'a status of 7': '82000000 07000000 0000000000000000',
  'the status UNREACHABLE': '82000000 04000000 0000000000000000',
  'an OK read reply of 0 pages': '81000800 00000000 0000000000000000 0000000000000000',
  'a failed read reply with a page': '81000800 01000000 0000000000000000 0100000000000000',
  'a read reply of 65 pages': '81000800 00000000 0000000000000000 4100000000000000',
  'a read reply with a reserved word': '81000800 00000000 0000000000000000 0100000001000000',
  'a PING with an aux': '10000000 01000000 0000000000000000',
  'a MANAGE with an aux': '40000000 01000000 0000000000000000',
  'a MANAGE_REPLY with an aux': 'c0000000 01000000 0000000000000000',
  'a CONTROL with an aux': '20000000 01000000 0000000000000000',
  'a HELLO with an id': '70000000 00000000 0100000000000000',
  'a NOTICE with a high id': '72000000 00000000 0000000001000000',
  'a REKEY with an aux': '71000000 01000000 0000000000000000',
  'a BYE of an unknown reason': '73000000 05000000 0000000000000000',
  'a BYE with an id': '73000000 00000000 0100000000000000',
};
for (const [name, hex] of Object.entries(REFUSED)) {
  t.test(`${name} is refused`, async (t) => {
    t.throws(() => cursorOver(hex).next(), { code: 'ERR_PEER_PROTOCOL' });
  });
}

for (const status of [0, 1, 2, 3, 5, 6]) {
  t.test(`status ${status} may travel`, async (t) => {
    t.ok(cursorOver(`82000000 0${status}000000 0000000000000000`).next());
  });
}

t.test('a cursor over nothing has no message', async (t) => {
  t.notOk(new MessageCursor().next());
  t.notOk(cursorOver('').next());
});
