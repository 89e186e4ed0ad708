/** Tables line up, and numbers keep the digits that matter. */
import t from 'tap';
import { formatEstimate, formatNumber, layOut } from '../../bench/table.ts';

t.test('numbers', async (t) => {
  const cases: [number, string][] = [
    [0, '0'],
    [0.0312, '0.031'],
    [0.8, '0.800'],
    [1.005, '1.00'],
    [9.876, '9.88'],
    [12.34, '12.3'],
    [417.6, '418'],
    [9999, '9999'],
    [51_234, '51.2k'],
    [512_345, '512k'],
    [1_234_567, '1.23M'],
    [-51_234, '-51.2k'],
    [NaN, '-'],
    [Infinity, '-'],
  ];
  for (const [value, expected] of cases) t.equal(formatNumber(value), expected, String(value));
  t.equal(formatEstimate({ value: 2.5, low: 2.25, high: 3 }), '2.50 [2.25, 3.00]');
});

t.test('the first column stands to the left, the others to the right', async (t) => {
  const rows = [
    ['a', '1'],
    ['long', '1000000'],
  ];
  t.equal(
    layOut(['name', 'n'], rows),
    ['name        n', '----  -------', 'a           1', 'long  1000000'].join('\n'),
  );
  t.equal(layOut(['a', 'bc'], []), 'a  bc\n-  --', 'a table without rows is its header');
});
