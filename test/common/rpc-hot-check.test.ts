/** The hand-written check and the schema are of one opinion: what the one is sure of, the other takes. */
import fc from 'fast-check';
import t from 'tap';
import { areSurelyGood } from '../../common/rpc-hot-check.ts';
import { checkRpcParams } from '../../common/rpc-schema.ts';

const METHODS = ['object.put', 'object.get', 'object.append'] as const;

const anything = fc.oneof(
  fc.string({ maxLength: 400 }),
  fc.constantFrom(
    '',
    'a\0b',
    'k'.repeat(1025),
    'ä'.repeat(341),
    '18446744073709551615',
    '007',
    '-1',
  ),
  fc.constantFrom('pinned', 'cache', 'trusted', 'private'),
  fc.integer(),
  fc.constantFrom(0, 1.5, -1, NaN, 2 ** 40, 2 ** 40 + 1, 49_152, 49_153, 2 ** 53 - 1, 2 ** 53),
  fc.boolean(),
  fc.constant(null),
  fc.constantFrom(0, 256, 257, 49_152, 49_153).map((size) => Buffer.alloc(size)),
  fc.array(fc.string({ maxLength: 3 }), { maxLength: 3 }),
);
const FIELDS =
  'key id peer remote mode ttlMs readers ifVersion meta data offset length brief upload more'.split(
    ' ',
  );
const params = fc.dictionary(fc.constantFrom(...FIELDS), anything, { noNullPrototype: true });

t.test('the check never passes what the schema refuses', (t) => {
  let sureCount = 0;
  fc.assert(
    fc.property(fc.constantFrom(...METHODS), params, (method, given) => {
      if (!areSurelyGood(method, given)) return true;
      sureCount += 1;
      return 'params' in checkRpcParams(method, given);
    }),
    { numRuns: 20_000 },
  );
  t.ok(sureCount > 100, `${sureCount} of them were good`);
  t.end();
});

t.test('what programs send all day passes it', (t) => {
  const data = Buffer.alloc(1024);
  const cases: [string, object][] = [
    ['object.put', { data }],
    ['object.put', { key: 'user:123', data, mode: 'cache', ttlMs: 1000, peer: 'n', remote: true }],
    ['object.put', { data: new Uint8Array(0), ifVersion: 0, meta: Buffer.alloc(256) }],
    ['object.get', { id: '18446744073709551615' }],
    ['object.get', { key: 'k', offset: 0, length: 49_152, ifVersion: 1, peer: 'n' }],
    ['object.get', { id: '7', brief: true }],
    ['object.append', { upload: '1', offset: 0, data }],
  ];
  for (const [method, given] of cases) {
    t.equal(areSurelyGood(method, given), true, JSON.stringify(Object.keys(given)));
  }
  t.equal(areSurelyGood('status', {}), false, 'others are left to the schema');
  for (const given of [null, undefined, 7, 'x', []])
    t.equal(areSurelyGood('object.put', given), false);
  t.end();
});
