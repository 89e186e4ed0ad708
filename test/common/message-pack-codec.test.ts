/** The quick MessagePack against msgpackr, its slow twin: what one writes the other reads, both ways. */
import { Packr, Unpackr } from 'msgpackr';
import fc from 'fast-check';
import t from 'tap';
import {
  DECLINED,
  MessagePackReader,
  MessagePackWriter,
  withOwnBinary,
} from '../../common/message-pack-codec.ts';

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

function written(value: unknown): Buffer {
  const writer = new MessagePackWriter();
  writer.value(value);
  return Buffer.from(writer.bytes.subarray(0, writer.end));
}

const anyValue = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false, -0, 2 ** 53 - 1, 2 ** 32, -1, 1.5, 0.1, Infinity),
    fc.integer(),
    fc.nat(300),
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.string({ maxLength: 60 }),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(
      fc.string({ maxLength: 40 }).filter((key) => !key.startsWith('__proto')),
      tie('value'),
      { maxKeys: 20, noNullPrototype: true },
    ),
  ),
})).value;

t.test('what the quick writer writes, both readers read as it was', (t) => {
  const reader = new MessagePackReader();
  fc.assert(
    fc.property(anyValue, (value) => {
      const bytes = written(value);
      const texts = [reader.read(bytes, 0, bytes.length), unpackr.unpack(bytes)].map((read) =>
        JSON.stringify(read),
      );
      return texts.every((text) => text === JSON.stringify(value));
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test('what msgpackr writes, the quick reader reads or declines', (t) => {
  const reader = new MessagePackReader();
  fc.assert(
    fc.property(anyValue, (value) => {
      const bytes = Buffer.from(packr.pack(value));
      const read = reader.read(bytes, 0, bytes.length);
      return read === DECLINED || JSON.stringify(read) === JSON.stringify(value);
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test('any bytes are a value that msgpackr reads as well, or declined', (t) => {
  const reader = new MessagePackReader();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (raw) => {
      const bytes = Buffer.from(raw);
      const read = reader.read(bytes, 0, bytes.length);
      if (read === DECLINED) return true;
      return JSON.stringify(unpackr.unpack(bytes)) === JSON.stringify(read);
    }),
    { numRuns: 5000 },
  );
  t.end();
});

t.test('bytes are those of the specification', (t) => {
  const cases: [unknown, string][] = [
    [null, 'c0'],
    [undefined, 'c0'],
    [false, 'c2'],
    [true, 'c3'],
    [0, '00'],
    [127, '7f'],
    [128, 'cc80'],
    [255, 'ccff'],
    [256, 'cd0100'],
    [65_536, 'ce00010000'],
    [4_294_967_295, 'ceffffffff'],
    [4_294_967_296, 'cf0000000100000000'],
    [9_007_199_254_740_991, 'cf001fffffffffffff'],
    [-1, 'cbbff0000000000000'],
    ['', 'a0'],
    ['a', 'a161'],
    ['ä', 'a2c3a4'],
    ['x'.repeat(32), `d920${'78'.repeat(32)}`],
    [Buffer.from([1, 2]), 'c4020102'],
    [new Uint8Array(0), 'c400'],
    [[], '90'],
    [[1, [2]], '92019102'],
    [{}, '80'],
    [{ a: 1, gone: undefined, b: null }, '82a16101a162c0'],
  ];
  for (const [value, hex] of cases) t.equal(written(value).toString('hex'), hex);
  t.end();
});

t.test('lengths that lie, depth, extensions and prototypes are declined', (t) => {
  const reader = new MessagePackReader();
  const cases = [
    '',
    'c1',
    'a261',
    'c40201',
    'c6ffffffff',
    'dbffffffff',
    'ddffffffff',
    'dfffffffff',
    'dcffff',
    'deffff',
    '9f01',
    '8101',
    '810102',
    '0000',
    'd6ff00000000',
    'cb00',
    'cfffffffffffffffff',
    `${'91'.repeat(20)}00`,
    '81a95f5f70726f746f5f5f80',
  ];
  for (const hex of cases) {
    const bytes = Buffer.from(hex, 'hex');
    t.equal(reader.read(bytes, 0, bytes.length), DECLINED, hex);
  }
  t.end();
});

t.test('a string that was seen before is not taken for another', (t) => {
  const reader = new MessagePackReader();
  // Equal in length, first, middle and last byte, which is all that the table of known strings looks at.
  for (const text of ['abXcdYe', 'abZcdWe', 'abXcdYe', 'äbXcdYe', 'a\u00e4cdYe']) {
    const bytes = written(text);
    t.equal(reader.read(bytes, 0, bytes.length), text);
  }
  t.end();
});

t.test('binary is a copy, and the buffer is used again', (t) => {
  const writer = new MessagePackWriter();
  writer.value(Buffer.from('first'));
  const bytes = writer.bytes;
  const value = new MessagePackReader().read(bytes, 0, writer.end) as Buffer;
  writer.clear();
  writer.value(Buffer.from('other'));
  t.equal(writer.bytes, bytes);
  t.equal(value.toString(), 'first');
  writer.value(Buffer.alloc(3_000_000));
  t.ok(writer.bytes.length >= 3_000_000, 'grows');
  writer.clear();
  t.equal(writer.bytes.length, 65_536, 'and is given up when it grew too far');
  t.end();
});

t.test('a reader that borrows leaves binary where it lies; what is kept gets its own', (t) => {
  const value = { list: [{ data: Buffer.from('first') }], text: 'x', number: 1, none: null };
  const bytes = written(value);
  const lent = new MessagePackReader(true).read(bytes, 0, bytes.length) as typeof value;
  t.same(lent, value);
  const kept = withOwnBinary(lent);
  bytes.fill('!');
  t.same(lent.list[0]?.data.toString(), '!!!!!');
  t.same(kept, value);
  const date = new Date(0);
  t.equal(withOwnBinary(date), date, 'what is no plain value does not become one');
  t.end();
});

t.test('strings of every length that differ in one byte are told apart', (t) => {
  const reader = new MessagePackReader();
  for (let length = 1; length <= 50; length += 1) {
    for (let at = 0; at < length; at += 1) {
      const text = `${'a'.repeat(at)}b${'a'.repeat(length - at - 1)}`;
      const bytes = written(text);
      const read = reader.read(bytes, 0, bytes.length);
      if (read !== text) t.equal(read, text);
    }
  }
  t.end();
});
