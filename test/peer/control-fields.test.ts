import t from 'tap';
import {
  asHex,
  asList,
  asMap,
  booleanField,
  integerField,
  underField,
} from '../../peer/control-fields.ts';

const refused = { code: 'ERR_PEER_PROTOCOL' };

t.test('an integer is taken within its bounds and nowhere else', async (t) => {
  for (const value of [3, 4, 5]) t.equal(integerField({ n: value }, 'n', 3, 5), value);
  for (const value of [2, 6, 3.5, NaN, Infinity, '4', true, null, undefined]) {
    t.throws(() => integerField({ n: value }, 'n', 3, 5), refused, String(value));
  }
});

t.test('a truth value is one, not what JavaScript takes for one', async (t) => {
  t.equal(booleanField({ b: true }, 'b'), true);
  t.equal(booleanField({ b: false }, 'b'), false);
  for (const value of [0, 1, 'true', null, undefined]) {
    t.throws(() => booleanField({ b: value }, 'b'), refused, String(value));
  }
});

t.test('a map is one', async (t) => {
  t.same(asMap({ a: 1 }, 'x'), { a: 1 });
  for (const value of [null, undefined, [], 'x', 1]) t.throws(() => asMap(value, 'x'), refused);
});

t.test('hex digits are lower case and exactly as many', async (t) => {
  t.equal(asHex('09af', 4, 'x'), '09af');
  for (const value of ['09a', '09aff', '09aF', '09ag', '09a\n', '', 9, null]) {
    t.throws(() => asHex(value, 4, 'x'), refused, String(value));
  }
});

t.test('a managed lease is named by 32 digits, or not at all', async (t) => {
  t.strictSame(underField({}), {});
  t.strictSame(underField({ under: '0a'.repeat(16) }), { under: '0a'.repeat(16) });
  for (const under of ['', '0a'.repeat(15), '0A'.repeat(16), 5, null, []]) {
    t.throws(() => underField({ under }), refused, String(under));
  }
});

t.test('a list has at most as many as allowed', async (t) => {
  t.same(asList([1, 2], 2, 'x'), [1, 2]);
  for (const value of [[1, 2, 3], { length: 1 }, 'ab', null]) {
    t.throws(() => asList(value, 2, 'x'), refused);
  }
});

t.test('what was refused is not told: it may be a secret', async (t) => {
  for (const refuse of [
    () => asHex('5ecre7'.repeat(10), 64, 'secret'),
    () => integerField({ n: 5347 }, 'n', 0, 1),
    () => asList(['5ecre7'], 0, 'x'),
  ]) {
    try {
      refuse();
      t.fail('it was taken');
    } catch (error) {
      t.notMatch((error as Error).message, /5ecre7|5347/);
    }
  }
});
