/** Block ids against their twin with BigInt, at every edge. */
import t from 'tap';
import { blockId, holderBits, randomOwnBits, readBlockId } from '../../objects/block-id.ts';
import { Random } from '../helpers/fuzz.ts';

const OWN_COUNT = 2n ** 40n;

function twin(bits: number, own: number): string {
  return ((BigInt(bits) << 40n) | BigInt(own)).toString();
}

t.test('the first 24 bits of a node id', (t) => {
  t.equal(holderBits('abcdef0123456789abcdef0123456789'), 0xabcdef);
  t.equal(holderBits('000001ffffffffffffffffffffffffff'), 1);
  t.end();
});

t.test('an id is what BigInt makes of it, and comes apart again', (t) => {
  const edges = [0, 1, 2, 2 ** 12, 2 ** 23, 2 ** 24 - 2, 2 ** 24 - 1];
  const owns = [0, 1, 9_999_999_999, 10_000_000_000, 2 ** 32, 2 ** 40 - 2, 2 ** 40 - 1];
  const pairs = edges.flatMap((bits) => owns.map((own) => [bits, own] as const));
  const random = new Random(11);
  for (let index = 0; index < 50_000; index += 1) {
    const own = randomOwnBits(() => random.below(2 ** 30) / 2 ** 30);
    pairs.push([random.below(2 ** 24), own]);
  }
  for (const [bits, own] of pairs) {
    const text = blockId(bits, own);
    if (text !== twin(bits, own)) t.equal(text, twin(bits, own), `${bits}, ${own}`);
    const read = readBlockId(text);
    if (read?.holderBits !== bits || read.own !== own) {
      t.same(read, { holderBits: bits, own }, text);
    }
  }
  t.end();
});

t.test('any number of 64 bits is taken apart, nothing else', (t) => {
  const random = new Random(12);
  for (let index = 0; index < 50_000; index += 1) {
    const value = random.bytes(8).readBigUInt64LE() >> BigInt(random.below(64));
    const expected = { holderBits: Number(value / OWN_COUNT), own: Number(value % OWN_COUNT) };
    const read = readBlockId(value.toString());
    if (read?.own !== expected.own || read.holderBits !== expected.holderBits) {
      t.same(read, expected, value.toString());
    }
  }
  const last = 2n ** 64n - 1n;
  t.same(readBlockId(last.toString()), { holderBits: 2 ** 24 - 1, own: 2 ** 40 - 1 });
  for (const text of [last + 1n, last + 10n ** 10n, 10n ** 20n, 10n ** 20n - 1n].map(String)) {
    t.equal(readBlockId(text), undefined, text);
  }
  for (const text of ['', '01', '-1', '1.5', '1e3', ' 1', 'x', '٣']) {
    t.equal(readBlockId(text), undefined, text);
  }
  t.end();
});
