/** What each kind of value takes from a file, a flag and the environment, and how it refuses. */
import t from 'tap';
import {
  address,
  addresses,
  choice,
  filePath,
  listenRange,
  number,
  optional,
  size,
  text,
  toggle,
  type ValueKind,
  type ValueSource,
} from '../../../common/config/kinds.ts';

const RAM = 8 * 2 ** 30;

function check<T>(kind: ValueKind<T>, raw: unknown, source: ValueSource = 'file'): T {
  return kind.check(raw, { ramBytes: RAM, source });
}

interface Case {
  name: string;
  kind: ValueKind<unknown>;
  takes: [unknown, unknown, string][];
  refuses: [unknown, RegExp][];
}

const name = { name: 'name', pattern: /^[a-z]+$/, expected: 'small letters' };
const CASES: Case[] = [
  {
    name: 'size',
    kind: size(),
    takes: [
      [0, 0, '0 B'],
      [4096, 4096, '4 KiB'],
      ['25%', 2147483648, '2 GiB'],
      ['min(ram, 1G)', 1073741824, '1 GiB'],
    ],
    refuses: [
      ['8X', /^expected a size such as .*, got "8X": "X" is not expected there$/],
      [-1, /^expected bytes, or a size in quotes such as "8G" or "50%", got -1$/],
      [1.5, /got 1\.5$/],
      [2n ** 63n, /got 9223372036854775808$/],
      [true, /got true$/],
      [['8G'], /got \["8G"\]$/],
      [new Date(0), /expected bytes/],
    ],
  },
  {
    name: 'size with a least',
    kind: size({ min: 4096 }),
    takes: [[4096, 4096, '4 KiB']],
    refuses: [
      [4095, /^expected at least 4 KiB, got 4095$/],
      ['0', /^expected at least 4 KiB, got "0"$/],
    ],
  },
  {
    name: 'number',
    kind: number({ min: 5, max: 86400, unit: ' seconds', isWhole: false }),
    takes: [
      [5, 5, '5'],
      [7.5, 7.5, '7.5'],
      [86400, 86400, '86400'],
    ],
    refuses: [
      [4.9, /^expected 5 to 86400 seconds, got 4\.9$/],
      [86401, /./],
      ['120', /got "120"$/],
      [NaN, /./],
      [Infinity, /./],
    ],
  },
  {
    name: 'whole number',
    kind: number({ min: 1, max: 8, isWhole: true }),
    takes: [
      [1, 1, '1'],
      [8, 8, '8'],
    ],
    refuses: [
      [0, /^expected 1 to 8, got 0$/],
      [9, /got 9/],
      [1.5, /got 1\.5/],
      [5n, /got 5/],
    ],
  },
  {
    name: 'toggle',
    kind: toggle(),
    takes: [
      [true, true, 'true'],
      [false, false, 'false'],
    ],
    refuses: [
      ['yes', /^expected true or false, got "yes"$/],
      [1, /got 1/],
    ],
  },
  {
    name: 'choice',
    kind: choice(['a', 'b']),
    takes: [['b', 'b', 'b']],
    refuses: [
      ['c', /^expected one of a, b, got "c"$/],
      ['', /got ""/],
      [['a'], /got \["a"\]/],
    ],
  },
  {
    name: 'text',
    kind: text(name),
    takes: [['abc', 'abc', 'abc']],
    refuses: [
      ['aBc', /^expected small letters, got "aBc"$/],
      [5, /got 5/],
      ['A'.repeat(100), /^.{80,90}$/],
    ],
  },
  {
    name: 'address',
    kind: address(),
    takes: [
      ['[::1]:0', '[::1]:0', '[::1]:0'],
      [':7070', ':7070', ':7070'],
    ],
    refuses: [
      ['7070', /^expected HOST:PORT, such as .*, got "7070"$/],
      [7070, /got 7070/],
      ['a:65536', /HOST:PORT/],
    ],
  },
  {
    name: 'listen range',
    kind: listenRange(),
    takes: [
      ['[::1]:0', '[::1]:0', '[::1]:0'],
      [':7070-7079', ':7070-7079', ':7070-7079'],
    ],
    refuses: [
      ['a', /^expected ADDR:PORT or ADDR:PORT-PORT, such as .*, got "a"$/],
      [':2-1', /got ":2-1"$/],
      [7070, /got 7070/],
    ],
  },
  {
    name: 'addresses',
    kind: addresses(),
    takes: [
      [[], [], '-'],
      [['a:1', 'b:2'], ['a:1', 'b:2'], 'a:1, b:2'],
    ],
    refuses: [
      ['a:1', /^expected a list such as \["192\.168\.1\.20:7070"\], got "a:1"$/],
      [['a:1', 'b'], /got "b"$/],
      [Array.from({ length: 257 }, () => 'a:1'), /^expected at most 256 addresses, got 257$/],
    ],
  },
  {
    name: 'path',
    kind: filePath(),
    takes: [['/a/../b/', '/b', '/b']],
    refuses: [
      ['a', /^expected an absolute path, got "a"$/],
      ['', /absolute/],
      ['/a\0', /absolute/],
      [1, /absolute/],
    ],
  },
  {
    name: 'socket',
    kind: filePath({ isSocket: true }),
    takes: [[`/${'x'.repeat(106)}`, `/${'x'.repeat(106)}`, `/${'x'.repeat(106)}`]],
    refuses: [[`/${'x'.repeat(107)}`, /1 to 107 bytes, got 108/]],
  },
];

for (const { name: label, kind, takes, refuses } of CASES) {
  t.test(`${label}: what a file may say`, (t) => {
    for (const [raw, value, shown] of takes) {
      t.strictSame(check(kind, raw), value);
      t.equal(kind.show(value), shown);
    }
    for (const [raw, message] of refuses) {
      t.throws(() => check(kind, raw), { code: /^ERR_USAGE/, message }, String(raw));
      t.throws(() => check(optional(kind), raw), { message });
    }
    for (const nothing of [null, undefined, {}, Symbol.iterator]) {
      t.throws(() => check(kind, nothing), { code: /^ERR_USAGE/ });
    }
    t.equal(optional(kind).show(undefined), '-');
    t.end();
  });
}

t.test('text of a flag or variable becomes what a file would have said', (t) => {
  const cases: [ValueKind<unknown>, string, unknown][] = [
    [size(), '0', '0'],
    [number({ min: 0, max: 9, isWhole: true }), ' 5 ', 5],
    [number({ min: 0, max: 9, isWhole: true }), '', ''],
    [number({ min: 0, max: 9, isWhole: true }), '5s', '5s'],
    [toggle(), 'Yes', true],
    [toggle(), 'on', true],
    [toggle(), '1', true],
    [toggle(), 'true', true],
    [toggle(), ' no', false],
    [toggle(), 'OFF', false],
    [toggle(), '0', false],
    [toggle(), 'false', false],
    [toggle(), 'maybe', 'maybe'],
    [addresses(), 'a:1,b:2 c:3, ', ['a:1', 'b:2', 'c:3']],
    [addresses(), '', []],
    [choice(['a']), 'a', 'a'],
  ];
  for (const [kind, written, raw] of cases) t.strictSame(kind.fromText(written), raw, written);
  t.end();
});

t.test('a path on the command line belongs to the working directory', (t) => {
  t.equal(check(filePath(), 'a', 'flag'), `${process.cwd()}/a`);
  t.equal(check(filePath(), 'a', 'env'), `${process.cwd()}/a`);
  t.throws(() => check(filePath(), '', 'flag'), { message: 'expected a path, got ""' });
  t.end();
});
