/**
 * Configuration against any text: size expressions, files, variables and flags. A size is a whole number
 * of bytes or ERR_USAGE_SIZE; a file gives settings that its own option takes and problems in one line
 * each; nothing is thrown. SEED=n repeats a run; FUZZ_SECONDS=n lengthens it.
 */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { OPTION_KEYS, optionOf, variableOf } from '../../common/config/options.ts';
import { describeProblem, resolveConfig } from '../../common/config/resolve.ts';
import { parseStatements } from '../../common/config/toml-statements.ts';
import { MemcloudError } from '../../common/errors.ts';
import { parseSizeExpression } from '../../common/size-expression.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';

const RAM = 24 * 2 ** 30;
const WORDS = 'ram min max ( ) , + - * / % 0 1 4 8.5 50% 8G 512MiB 9e9 k T b . \t \0 é'.split(' ');
const LINES = [
  ...OPTION_KEYS.flatMap((key) => [`${key} = 1`, `${key} = "x"`, `${key} = true`, `"${key}" = 5`]),
  'offer = "min(ram/4, 8GiB)"',
  'connect = ["a:1", "b:2"]',
  'connect = [',
  ']',
  '[swap]',
  '[[swap]]',
  '[ swap . x ]',
  'swap = { size = "1G", copies = 2 }',
  'name = """',
  '"""',
  "name = '''a'''",
  'a.b.c = 1979-05-27T07:32:00Z',
  '__proto__ = 1',
  '"a\\nb\\u0000" = 1',
  '[__proto__]',
  'constructor.prototype = 1',
  'offer = 0x10',
  'offer = 1_000',
  'offer = inf',
  'lease-ttl = nan',
  '# comment',
  '',
];

function randomText(random: Random, parts: readonly string[], joint: string): string {
  const count = random.below(12);
  const made = Array.from({ length: count }, () => random.pick(parts)).join(joint);
  return random.below(3) === 0 ? random.mutate(Buffer.from(made)).toString('utf8') : made;
}

t.test('an expression is a number of bytes or ERR_USAGE_SIZE', (t) =>
  fuzz(t, (random) => {
    const text = randomText(random, WORDS, random.pick(['', ' ']));
    try {
      const bytes = parseSizeExpression(text, RAM);
      if (!Number.isSafeInteger(bytes) || bytes < 0) throw new Error(`${text}: ${bytes}`);
    } catch (error) {
      if (!(error instanceof MemcloudError) || error.code !== 'ERR_USAGE_SIZE') throw error;
      if (/[\n\0]/.test(error.message)) throw new Error(`not one line: ${error.message}`);
    }
  }),
);

t.test('statements stand on the lines that they are said to', (t) =>
  fuzz(t, (random) => {
    const text = randomText(random, LINES, '\n');
    const lineCount = text.split('\n').length;
    const { statements, problem } = parseStatements(text);
    let last = 1;
    for (const { line } of statements) {
      if (line < last || line > lineCount) throw new Error(`line ${line} after ${last}`);
      last = line;
    }
    if (problem !== undefined && (problem.line < last || problem.line > lineCount)) {
      throw new Error(`problem on line ${problem.line} of ${lineCount}, after ${last}`);
    }
  }),
);

t.test('whatever is written, each setting is one that its option takes', (t) => {
  const folder = t.testdir({ 'config.d': {} });
  return fuzz(t, (random) => {
    fs.writeFileSync(path.join(folder, 'config.toml'), randomText(random, LINES, '\n'));
    fs.writeFileSync(path.join(folder, 'config.d/a.toml'), randomText(random, LINES, '\n'));
    const env: NodeJS.ProcessEnv = {};
    const flags: Record<string, unknown> = {};
    for (let count = random.below(3); count > 0; count -= 1) {
      env[variableOf(random.pick(OPTION_KEYS))] = randomText(random, WORDS, '');
      flags[random.pick(OPTION_KEYS)] = random.pick<unknown>([true, 'x', '1', '50%', ['a:1']]);
    }
    const resolved = resolveConfig({ env, flags, configPath: folder, ramBytes: RAM });
    for (const key of OPTION_KEYS) {
      const value = resolved.values[key];
      const { kind } = optionOf(key);
      kind.show(value);
      if (value !== undefined) kind.check(value, { ramBytes: RAM, source: 'file' });
    }
    for (const problem of resolved.problems) {
      if (/[\n\0]/.test(describeProblem(problem)) || problem.message === '')
        throw new Error(describeProblem(problem));
    }
  });
});
