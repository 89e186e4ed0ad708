import t from 'tap';
import {
  encodeTransaction,
  keyBytes,
  prefixBytes,
  prefixEnd,
  valueBytes,
} from '../../control-plane/meta-checks.ts';

const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };

t.test('keys have 1 to 512 bytes of UTF-8, values up to 65 536', async (t) => {
  t.same(keyBytes('é'), Buffer.from([0xc3, 0xa9]));
  t.equal(keyBytes('x'.repeat(512)).length, 512);
  t.equal(prefixBytes('').length, 0);
  t.equal(valueBytes('').length, 0);
  t.equal(valueBytes('x'.repeat(65_536)).length, 65_536);
  for (const bad of ['', 'x'.repeat(513), 'é'.repeat(257), '\ud800', 'a\udfffb']) {
    t.throws(() => keyBytes(bad), STORE_ERROR);
  }
  for (const bad of ['x'.repeat(65_537), '\ud800']) t.throws(() => valueBytes(bad), STORE_ERROR);
});

t.test('the end of a prefix is the first key that does not begin with it', async (t) => {
  const rows: [number[], number[] | undefined][] = [
    [[0x61], [0x62]],
    [
      [0x61, 0x2f],
      [0x61, 0x30],
    ],
    [[0x61, 0xff], [0x62]],
    [[0x61, 0xff, 0xff], [0x62]],
    [[0x00], [0x01]],
    [[0xff], undefined],
    [[], undefined],
  ];
  for (const [prefix, end] of rows) {
    t.same(prefixEnd(Buffer.from(prefix)), end === undefined ? undefined : Buffer.from(end));
  }
});

t.test('a transaction names a key once, and has 100 changes of 1 MiB at most', async (t) => {
  const puts = (count: number, length: number): { put: string; value: string }[] =>
    Array.from({ length: count }, (_, index) => ({
      put: `${index}`.padStart(8, '0'),
      value: 'x'.repeat(length),
    }));
  t.same(encodeTransaction([{ key: 'a', revision: 3 }], [{ remove: 'b' }]), {
    compares: [{ key: Buffer.from('a'), revision: 3 }],
    ops: [{ key: Buffer.from('b'), op: { remove: 'b' }, value: undefined }],
  });
  t.equal(encodeTransaction([], puts(100, 1)).ops.length, 100);
  t.throws(() => encodeTransaction([], puts(101, 1)), STORE_ERROR);
  t.equal(encodeTransaction([], puts(16, 65_528)).ops.length, 16, '1 048 576 bytes');
  t.throws(() => encodeTransaction([], puts(16, 65_529)), STORE_ERROR);
  t.throws(() => encodeTransaction([], [{ remove: 'a' }, { put: 'a', value: '' }]), STORE_ERROR);
  const compares = puts(101, 0).map(({ put }) => ({ key: put, revision: 0 }));
  t.throws(() => encodeTransaction(compares, []), STORE_ERROR);
});
