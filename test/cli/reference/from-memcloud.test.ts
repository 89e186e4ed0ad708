/** docs/from-memcloud.md: the tests that it names are there, and so are the commands. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { translateOldNames } from '../../../cli/old-names.ts';
import { problemsOfCommand } from '../../helpers/written-commands.ts';

const ROOT = path.join(import.meta.dirname, '../../../..');
const TEXT = fs.readFileSync(path.join(ROOT, 'docs/from-memcloud.md'), 'utf8');
/** Programs, and what is said of packages and documents, have no test that is named after them. */
const WITHOUT_TEST = ['architecture, interceptor guide', 'reference of the API'];

/** The rows of the tables with a column for tests: feature, there, here, tests. */
const rows = TEXT.split('\n')
  .filter((line) => line.startsWith('|') && !/^\| -/.test(line))
  .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
  .filter((cells) => cells.length === 6 && cells[1] !== 'feature')
  .map(([, feature = '', there = '', here = '', tests = '']) => ({ feature, there, here, tests }));

/** What stands between backticks. */
function codeIn(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code.replaceAll('\\|', '|'));
}

t.test('each row has a word for there, something here, and tests that are files', (t) => {
  t.ok(rows.length > 60, `${rows.length} rows`);
  for (const { feature, there, here, tests } of rows) {
    t.match(there, /^(yes|partly|no)$/, feature);
    t.not(here, '', feature);
    const files = codeIn(tests);
    t.equal(files.length === 0, WITHOUT_TEST.includes(feature), `${feature}: ${tests}`);
    for (const file of files) {
      t.match(file, /^test\/[a-z0-9/-]+\.test\.ts$/);
      t.ok(fs.existsSync(path.join(ROOT, file)), `${feature}: ${file}`);
    }
  }
  t.end();
});

t.test('each command is in the tables of commands, with its options', (t) => {
  const lines = codeIn(TEXT).filter((code) => code.startsWith('memcloud '));
  t.ok(lines.length > 60, `${lines.length} commands`);
  for (const line of lines) {
    // What comes after -- is another program's.
    const words = (line.split(' -- ')[0] ?? '').split(' ').slice(1);
    t.same(problemsOfCommand(translateOldNames(words)), [], line);
  }
  t.end();
});

t.test('each document that it leads to is there', (t) => {
  for (const [, target = ''] of TEXT.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
    t.ok(fs.existsSync(path.join(ROOT, 'docs', target)), target);
  }
  t.end();
});
