import fc from 'fast-check';
import { Packr } from 'msgpackr';
import t from 'tap';
import { unpackMap } from '../../peer/message-pack.ts';

const packr = new Packr({ useRecords: false });
const refused = { code: 'ERR_PEER_PROTOCOL' };
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');

t.test('what msgpackr writes of our kinds of values is read back', async (t) => {
  const leaf = fc.oneof(
    fc.integer({ min: -(2 ** 53) + 1, max: 2 ** 53 - 1 }),
    fc.boolean(),
    fc.constant(null),
    fc.string({ maxLength: 300, unit: 'grapheme' }),
  );
  const list = fc.array(leaf, { maxLength: 40 });
  const value = fc.oneof(
    leaf,
    list,
    fc.dictionary(fc.string({ maxLength: 8 }), fc.oneof(leaf, list), { maxKeys: 20 }),
  );
  // msgpackr renames `__proto__`; no body of ours has it.
  const map = fc.dictionary(
    fc.string({ maxLength: 8 }).filter((key) => key !== '__proto__'),
    value,
    { maxKeys: 20 },
  );
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`SEED=${seed}`);
  fc.assert(
    fc.property(map, (input) => {
      const normal = JSON.stringify(input, (_key, v: unknown) => (Object.is(v, -0) ? 0 : v));
      t.equal(JSON.stringify(unpackMap(packr.pack(input))), JSON.stringify(JSON.parse(normal)));
    }),
    { seed, numRuns: 300 },
  );
});

const REFUSED: Record<string, string> = {
  'no bytes': '',
  'a number': '05',
  nil: 'c0',
  'an array': '9105',
  'a cut map': '81',
  'a cut string': '81 a1 61 a5 61',
  'bytes after the map': '80 00',
  'a key that is a number': '81 01 02',
  'a key that comes twice': '82 a161 01 a161 02',
  'a binary': '81 a161 c4 01 00',
  'an extension': '81 a161 d4 01 00',
  'a record definition of msgpackr': 'd4 72 40 91 a161 01',
  'a float32': '81 a161 ca 00000000',
  'a reserved byte': '81 a161 c1',
  'a map of 2^32 - 1': 'df ffffffff',
  'an array of 2^32 - 1': '81 a161 dd ffffffff',
  'a map16 that claims 65535 entries': 'de ffff a161 01',
  'an array16 that claims 65535 values': '81 a161 dc ffff 01',
  'a string32': '81 a161 db 00000001 61',
  'a uint64 beyond 2^53': '81 a161 cf 0020000000000000',
  'an int64 beyond -2^53': '81 a161 d3 8000000000000000',
  'nesting of 6': '81 a161 91 91 91 91 91 01',
};
for (const [name, hex] of Object.entries(REFUSED)) {
  t.test(`${name} is refused`, async (t) => {
    t.throws(() => unpackMap(bytes(hex)), refused);
  });
}

t.test('more values than fit are refused', async (t) => {
  const many = (count: number): Buffer => packr.pack({ a: new Array(count).fill(1) });
  t.doesNotThrow(() => unpackMap(many(4093)));
  t.throws(() => unpackMap(many(4094)), refused);
});

t.test('no key is special', async (t) => {
  const map = unpackMap(bytes('81 a9 5f5f70726f746f5f5f 80'));
  t.same(Object.keys(map), ['__proto__']);
  t.equal(Object.getPrototypeOf(map), null);
});
