/** Parts of schemas, at their bounds. */
import t from 'tap';
import * as v from 'valibot';
import { hexDigits, wholeNumber } from '../../common/schema-parts.ts';

t.test('whole numbers', async (t) => {
  for (const right of [2, 3, 7]) t.ok(v.is(wholeNumber(7, 2), right), `${right}`);
  for (const wrong of [1, 8, 2.5, NaN, Infinity, '3', null, 3n]) {
    t.notOk(v.is(wholeNumber(7, 2), wrong), String(wrong));
  }
  t.ok(v.is(wholeNumber(), 0));
  t.ok(v.is(wholeNumber(), 9_007_199_254_740_991));
  t.notOk(v.is(wholeNumber(), 9_007_199_254_740_992));
  t.notOk(v.is(wholeNumber(), -1));
  t.match(v.safeParse(wholeNumber(7, 2), 8).issues, [{ message: 'expected at most 7' }]);
  t.match(v.safeParse(wholeNumber(7, 2), 1).issues, [{ message: 'expected at least 2' }]);
});

t.test('hex digits', async (t) => {
  t.ok(v.is(hexDigits(4), '09af'));
  for (const wrong of ['09a', '09aff', '09AF', '09ag', ' 09af', '09af\n', '', 9]) {
    t.notOk(v.is(hexDigits(4), wrong), JSON.stringify(wrong));
  }
  t.match(v.safeParse(hexDigits(4), 'x').issues, [{ message: 'expected 4 hex digits' }]);
});
