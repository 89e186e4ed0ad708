/** docs/memcloud-faults.md names every fault once, and only tests that there are. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';

const DOCS = path.resolve('docs');
const text = fs.readFileSync(path.join(DOCS, 'memcloud-faults.md'), 'utf8');

/** The cells of the rows of a section. */
function rows(title: string): string[][] {
  const [, section = ''] = text.split(`\n## ${title}\n`);
  const lines = section.split('\n## ')[0]!.split('\n');
  const table = lines.filter((line) => line.startsWith('|')).slice(2);
  // An escaped bar is part of a cell.
  return table.map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

t.test('rows 1 to 16 are all there, 12 in its eight parts', (t) => {
  const numbers = Array.from({ length: 16 }, (_, index) => `${index + 1}`);
  const expected = numbers.flatMap((number) =>
    number === '12' ? [...'abcdefgh'].map((letter) => `12${letter}`) : [number],
  );
  t.same(
    rows('Security').map(([number]) => number),
    expected,
  );
  t.end();
});

t.test('each row says what was wrong, what happens here, and names tests that there are', (t) => {
  const all = [...rows('Security'), ...rows('Storage')];
  t.ok(all.length >= 23 + 15, `${all.length} rows`);
  for (const cells of all) {
    const [name = '', there = '', here = '', tests = '', ...more] = cells;
    t.ok(name !== '' && there !== '' && here !== '' && more.length === 0, name);
    const links = [...tests.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)];
    t.ok(links.length > 0, `${name} is attacked by a test`);
    for (const [, label = '', link = ''] of links) {
      t.equal(link, `../test/${label}.test.ts`, name);
      const source = fs.readFileSync(path.join(DOCS, link), 'utf8');
      t.match(source, /\bt\.test\(/, `${link} has tests`);
    }
  }
  t.end();
});

t.test('it is found from the threat model and from the first page', (t) => {
  t.match(fs.readFileSync(path.join(DOCS, 'threat-model.md'), 'utf8'), '](memcloud-faults.md)');
  t.match(fs.readFileSync(path.resolve('README.md'), 'utf8'), '](docs/memcloud-faults.md)');
  t.end();
});
