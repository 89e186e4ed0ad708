/** Sizes as expressions: tables of what is and what is not one, and a naive twin over random ones. */
import fc from 'fast-check';
import t from 'tap';
import { parseSizeExpression } from '../../common/size-expression.ts';
import { parseSize } from '../../common/units.ts';

const GIB = 1073741824;
const RAM = 24 * GIB;

t.test('bytes, units, shares of the RAM and arithmetic', (t) => {
  const cases: [string, number][] = [
    ['0', 0],
    ['4096', 4096],
    ['8G', 8 * GIB],
    ['8gib', 8 * GIB],
    ['8 GB', 8 * GIB],
    ['512MiB', 536870912],
    ['1.5k', 1536],
    ['17b', 17],
    ['2T', 2199023255552],
    ['50%', 12 * GIB],
    ['12.5 %', 3 * GIB],
    ['200%', 48 * GIB],
    ['ram', RAM],
    ['RAM/4', 6 * GIB],
    ['ram / 2 / 3', 4 * GIB],
    ['ram*0.25', 6 * GIB],
    ['2*ram', 48 * GIB],
    ['ram - 2GiB', 22 * GIB],
    ['ram-2G-2G', 20 * GIB],
    ['2G + 3 * 2G', 8 * GIB],
    ['(2G + 3) * 2', 4 * GIB + 6],
    ['min(ram/4, 8GiB)', 6 * GIB],
    ['min(ram/2, 8GiB)', 8 * GIB],
    ['max(0, ram - 32G)', 0],
    ['MAX(1G, 10%, 2G)', Math.floor(RAM / 10)],
    ['min(max(1G, ram/8), 16G)', 3 * GIB],
    ['  ( ( 1 ) )\t', 1],
    ['10/4', 2],
    ['9007199254740991', 9007199254740991],
    [`${'('.repeat(16)}1${')'.repeat(16)}`, 1],
    [`1${' '.repeat(199)}`, 1],
  ];
  for (const [text, bytes] of cases) t.equal(parseSizeExpression(text, RAM), bytes, text);
  t.end();
});

t.test('what is no size is refused in a sentence that says why', (t) => {
  const cases: [string, RegExp][] = [
    ['', /it ends too soon/],
    ['lots', /"lots" is no number, ram, min\(\) or max\(\)/],
    ['8X', /"X" is not expected there/],
    ['8 G G', /"G" is not expected there/],
    ['1.5.2', /"\.2" is not expected there/],
    ['-1G', /"-" is no number/],
    ['1G -', /it ends too soon/],
    ['1G 2G', /"2G" is not expected there/],
    ['min', /min and max want their sizes in parentheses/],
    ['min()', /"\)" is no number/],
    ['min(1G', /a "\)" is missing/],
    ['min(1G; 2G)', /"\)" is missing at ";"/],
    ['min(1G,)', /"\)" is no number/],
    ['1G)', /"\)" is not expected there/],
    ['ram*ram', /a size times a size is no size/],
    ['8G/2G', /a size can be divided by a plain number only/],
    ['8/2G', /a size can be divided by a plain number only/],
    ['ram/0', /it divides by zero/],
    ['ram/(1-1)', /it divides by zero/],
    ['1G - ram', /it is negative where the RAM is 24 GiB/],
    ['9007199254740992', /it is too large/],
    ['9'.repeat(200), /it is too large/],
    ['1'.repeat(201), /it is longer than 200 characters/],
    [`${'('.repeat(17)}1${')'.repeat(17)}`, /more than 16 parentheses inside each other/],
    ['ram\0', /is not expected there/],
    ['50%%', /"%" is not expected there/],
    ['5 min(1,2)', /"min" is not expected there/],
  ];
  for (const [text, why] of cases) {
    t.throws(() => parseSizeExpression(text, RAM), { code: 'ERR_USAGE_SIZE', message: why }, text);
  }
  t.throws(() => parseSizeExpression('x\u001b[2J', RAM), {
    message:
      'expected a size such as 512M, 50% or min(ram/4, 8GiB), got "x\\u001b[2J": ' +
      '"x" is no number, ram, min() or max()',
  });
  t.end();
});

/** A random expression, and what it is worth by the plainest means. */
interface Twin {
  text: string;
  value: number;
  isSize: boolean;
}

const blank = fc.constantFrom('', ' ', '\t ');
const leaf: fc.Arbitrary<Twin> = fc.oneof(
  fc.constant({ text: 'ram', value: RAM, isSize: true }),
  fc.nat(1_000_000).map((value) => ({ text: String(value), value, isSize: false })),
  fc.nat(400).map((share) => ({ text: `${share}%`, value: (share / 100) * RAM, isSize: true })),
  fc
    .tuple(fc.nat(4000), fc.constantFrom('k', 'M', 'GiB', 'g', 'mb', 'B'))
    .map(([value, unit]) => ({ text: `${value}${unit}`, value: parseSize(`${value}${unit}`) }))
    .map((twin) => ({ ...twin, isSize: true })),
);

const { twin } = fc.letrec<{ twin: Twin }>((tie) => ({
  twin: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc
      .tuple(tie('twin'), fc.constantFrom('+', '-'), tie('twin'), blank)
      .map(([a, sign, b, gap]) => ({
        text: `(${a.text}${gap}${sign}${gap}${b.text})`,
        value: sign === '+' ? a.value + b.value : a.value - b.value,
        isSize: a.isSize || b.isSize,
      })),
    fc.tuple(tie('twin'), fc.integer({ min: 1, max: 9 }), blank).map(([a, by, gap]) => ({
      text: `(${a.text}${gap}/${gap}${by})`,
      value: a.value / by,
      isSize: a.isSize,
    })),
    fc.tuple(tie('twin'), fc.nat(9), blank).map(([a, by, gap]) => ({
      text: `(${by}${gap}*${a.text})`,
      value: by * a.value,
      isSize: a.isSize,
    })),
    fc
      .tuple(
        fc.constantFrom('min', 'max'),
        fc.array(tie('twin'), { minLength: 1, maxLength: 3 }),
        blank,
      )
      .map(([name, parts, gap]) => ({
        text: `${name}${gap}(${parts.map(({ text }) => text).join(`,${gap}`)})`,
        value: Math[name](...parts.map(({ value }) => value)),
        isSize: parts.some(({ isSize }) => isSize),
      })),
  ),
}));

t.test('a random expression is worth what a naive twin says', (t) => {
  let worth = 0;
  fc.assert(
    fc.property(twin, ({ text, value }) => {
      const bytes = Math.floor(value);
      if (text.length > 200 || !Number.isSafeInteger(bytes) || bytes < 0) {
        t.throws(() => parseSizeExpression(text, RAM), { code: 'ERR_USAGE_SIZE' }, text);
      } else {
        worth += 1;
        if (parseSizeExpression(text, RAM) !== bytes) throw new Error(`${text}: not ${bytes}`);
      }
    }),
    { numRuns: 2000, verbose: 1 },
  );
  t.ok(worth > 500, 'most have a value');
  t.end();
});

t.test('every size of parseSize means the same', (t) => {
  const sizes = fc
    .tuple(
      fc.nat(5000),
      fc.option(fc.nat(99)),
      fc.constantFrom('', ' ', '  '),
      fc.constantFrom('', 'b', 'B', 'k', 'KB', 'kib', 'M', 'MiB', 'g', 'GB', 'T', 'tib'),
    )
    .map(([whole, part, gap, unit]) => `${whole}${part === null ? '' : `.${part}`}${gap}${unit}`);
  fc.assert(
    fc.property(sizes, (text) => parseSizeExpression(text, RAM) === parseSize(text)),
    { numRuns: 1000 },
  );
  t.end();
});
