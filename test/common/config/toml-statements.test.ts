/** Each key of a file with its line, in every way that TOML allows to write it. */
import fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import t from 'tap';
import { parseStatements } from '../../../common/config/toml-statements.ts';

type Row = [string, unknown, number];

function rows(text: string): Row[] {
  return parseStatements(text).statements.map(({ path, value, line }): Row => [path, value, line]);
}

t.test('keys, tables, dots, quotes, lists and strings over lines', (t) => {
  const cases: [string, Row[]][] = [
    ['', []],
    ['# nothing\n\n', []],
    ['a = 1', [['a', 1, 1]]],
    ['\n# x\n  a = "1" # y\nb = true\n', [['a', '1', 3], ['b', true, 4]]],
    ['a = [\n "x", # one\n "y",\n]\nb = 2', [['a', ['x', 'y'], 1], ['b', 2, 5]]],
    ['a = """\nx = 1\n[t]\n"""\nb = 2', [['a', 'x = 1\n[t]\n', 1], ['b', 2, 5]]],
    ["a = '''\n'''\nb = 2", [['a', '', 1], ['b', 2, 3]]],
    ['[t]\na = 1\n[u]\nb = 2', [['t', undefined, 1], ['t.a', 1, 2], ['u', undefined, 3], ['u.b', 2, 4]]],
    ['[t.u]\na = 1', [['t.u', undefined, 1], ['t.u.a', 1, 2]]],
    [' [ t ] # x\n"a" = 1', [['t', undefined, 1], ['t.a', 1, 2]]],
    ['t.a = 1\nt.b = 2', [['t.a', 1, 1], ['t.b', 2, 2]]],
    ['t = { a = 1, b = { c = 2 } }', [['t.a', 1, 1], ['t.b.c', 2, 1]]],
    ['t = {}', [['t', {}, 1]]],
    ['[[t]]\na = 1', [['t', [], 1], ['t.a', 1, 2]]],
    ['a = [[1], [2]]\nb = 3', [['a', [[1], [2]], 1], ['b', 3, 2]]],
    ['a = 1\r\nb = 2\r\n', [['a', 1, 1], ['b', 2, 2]]],
    ['__proto__ = 1\nconstructor = 2', [['__proto__', 1, 1], ['constructor', 2, 2]]],
    ['a = 9223372036854775807', [['a', 9223372036854775807n, 1]]],
  ]; // prettier-ignore
  for (const [text, expected] of cases) {
    t.equal(parseStatements(text).problem, undefined, text);
    t.strictSame(JSON.stringify(rows(text), text64), JSON.stringify(expected, text64), text);
  }
  t.match(rows('a = 1979-05-27')[0]?.[1], Date);
  t.end();
});

function text64(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}

t.test('what is not TOML is told with its line, after what stood before it', (t) => {
  const cases: [string, number, RegExp, number][] = [
    ['a = 1\nb = 8G\nc = 2', 2, /illegal character in numeric literal; text stands in quotes: "8G"/, 1],
    ['a = yes', 1, /invalid value; text stands in quotes/, 0],
    ['a = 1\na = 2', 2, /redefine/, 1],
    ['[t]\na = 1\n[t]', 3, /redefine/, 2],
    ['a', 1, /expected TOML/, 0],
    ['a = "x', 1, /expected TOML/, 0],
    ['a = 1\nb = [\n1,\n', 4, /expected TOML/, 1],
    [`a = ${'['.repeat(9)}${']'.repeat(9)}`, 1, /expected TOML/, 0],
    ['a = 1\0', 1, /expected TOML/, 0],
  ]; // prettier-ignore
  for (const [text, line, message, before] of cases) {
    const { problem, statements } = parseStatements(text);
    t.match(problem, { line, message }, JSON.stringify(text));
    t.notMatch(problem?.message, /\n/);
    t.equal(statements.length, before, 'what stood before');
  }
  t.end();
});

t.test('a file that is too long is refused, one that is as long as may be is read', (t) => {
  const message = 'expected at most 64 KiB and 2000 lines';
  t.equal(parseStatements('#'.repeat(65536)).problem, undefined);
  t.same(parseStatements('#'.repeat(65537)).problem, { line: 1, message });
  t.equal(parseStatements('\n'.repeat(1999)).problem, undefined);
  t.same(parseStatements('\n'.repeat(2000)).problem, { line: 1, message });
  const slow = parseStatements(`a = """${'x\n'.repeat(1998)}"""`);
  t.match(slow.statements, [{ path: 'a', line: 1 }]);
  t.end();
});

t.test('whatever the parser makes of a document, the statements make of it too', (t) => {
  const key = fc.stringMatching(/^[a-z]{1,3}$/);
  const scalar = fc.oneof(
    fc.integer(),
    fc.boolean(),
    fc.string(),
    fc.array(fc.string(), { maxLength: 3 }),
  );
  const table = fc.dictionary(key, scalar, { maxKeys: 4, minKeys: 1 });
  const document = fc.dictionary(key, fc.oneof(scalar, table), { maxKeys: 6 });
  fc.assert(
    fc.property(document, (value) => {
      const text = stringify(value);
      const found: Record<string, unknown> = {};
      for (const [path, each, line] of rows(text)) {
        if (each !== undefined) found[path] = each;
        const name = path.split('.').pop() ?? '';
        if (!(text.split('\n')[line - 1] ?? '').includes(name)) throw new Error(`${path}: ${line}`);
      }
      const wanted: Record<string, unknown> = {};
      for (const [path, each] of Object.entries(parse(text))) {
        const isTable = typeof each === 'object' && !Array.isArray(each);
        if (!isTable) wanted[path] = each;
        else for (const [inner, one] of Object.entries(each)) wanted[`${path}.${inner}`] = one;
      }
      if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(text);
    }),
    { numRuns: 300 },
  );
  t.end();
});
