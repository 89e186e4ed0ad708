/** Globs: what fits, against a naive twin that tries everything; and that no pattern explodes. */
import t from 'tap';
import { Glob } from '../../objects/glob.ts';
import { fuzz } from '../helpers/fuzz.ts';

const CASES: readonly [string, readonly string[], readonly string[]][] = [
  ['', [''], ['a']],
  ['log/1', ['log/1'], ['log/', 'log/12', 'Log/1']],
  ['*', ['', 'a', 'a/b', '.a', '😀'], []],
  ['log/*', ['log/', 'log/1', 'log/a/b'], ['log', 'xlog/']],
  ['*.gz', ['.gz', 'a.gz', 'a.gz.gz'], ['a.gzip', 'gz']],
  ['a*b*c', ['abc', 'aXbYc', 'abcbc'], ['acb', 'ab', 'abcd']],
  ['?', ['a', 'ü', '😀'], ['', 'ab']],
  ['a?c', ['abc', 'a😀c', 'a/c'], ['ac', 'abbc']],
  ['[a-c]x', ['ax', 'bx', 'cx'], ['dx', 'x', 'abx']],
  ['[!a-c]x', ['dx', '-x', '😀x'], ['ax', 'cx', 'x']],
  ['[]a]', [']', 'a'], ['b', '[]a]']],
  ['[!]a]', ['b'], [']', 'a']],
  ['[a-]', ['a', '-'], ['b']],
  ['[-a]', ['a', '-'], ['b']],
  ['[a\\]b]', ['a', ']', 'b'], ['\\']],
  ['[α-ω]', ['β'], ['b']],
  ['[z-a]', [], ['a', 'm', 'z']],
  ['[ab', ['[ab'], ['a', 'b']],
  ['[', ['['], ['']],
  ['\\*', ['*'], ['a', '\\*', '']],
  ['\\a', ['a'], ['\\a']],
  ['a\\', ['a\\'], ['a']],
  ['**a**', ['a', 'xay'], ['', 'x']],
];

t.test('what fits and what does not', async (t) => {
  for (const [pattern, fits, others] of CASES) {
    for (const text of fits) t.ok(new Glob(pattern).matches(text), `${pattern} fits '${text}'`);
    for (const text of others)
      t.notOk(new Glob(pattern).matches(text), `${pattern}, not '${text}'`);
  }
});

t.test('the prefix is what everything that fits begins with', async (t) => {
  for (const [pattern, prefix] of [
    ['log/2024-*', 'log/2024-'],
    ['*', ''],
    ['a\\*b?', 'a*b'],
    ['[a]b', ''],
    ['plain', 'plain'],
  ] as const) {
    t.equal(new Glob(pattern).prefix, prefix);
  }
});

/** Tries every length for every star. */
function naive(pattern: string, text: string): boolean {
  if (pattern === '') return text === '';
  const rest = pattern.slice(1);
  if (pattern[0] === '*')
    return naive(rest, text) || (text !== '' && naive(pattern, text.slice(1)));
  if (text === '') return false;
  return (pattern[0] === '?' || pattern[0] === text[0]) && naive(rest, text.slice(1));
}

t.test('equals the naive twin', async (t) => {
  await fuzz(t, (random) => {
    for (let count = 0; count < 200; count += 1) {
      const draw = (letters: string, length: number): string =>
        Array.from({ length: random.below(length) }, () => random.pick(Array.from(letters))).join(
          '',
        );
      const pattern = draw('ab**?', 9);
      const text = draw('ab', 12);
      if (new Glob(pattern).matches(text) !== naive(pattern, text)) {
        throw new Error(`${pattern} on ${text}`);
      }
    }
  });
});

t.test('any text is a pattern, and one that is meant to explode takes few steps', async (t) => {
  await fuzz(t, (random) => {
    const pattern = random.mutate(Buffer.from('a*[b-d]\\*?[!x]')).toString('latin1');
    new Glob(pattern).matches(random.bytes(random.below(40)).toString('latin1'));
  });
  const text = 'a'.repeat(1024);
  for (const pattern of [
    '*a'.repeat(500) + 'b',
    '*'.repeat(1000) + 'b',
    '*?a'.repeat(300) + 'b',
    '*' + 'a'.repeat(500) + 'b' + '*',
    '*[ab]'.repeat(200) + 'b',
  ]) {
    const glob = new Glob(pattern);
    t.equal(glob.matches(text), false);
    t.ok(glob.steps <= 1024 * 1024, `${glob.steps} steps`);
  }
});
