/** Manual pages, reference and completion: made from the command tables, and current. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { everyCommand } from '../../../cli/modules.ts';
import { complete, SCRIPTS } from '../../../cli/reference/completion.ts';
import { globalEntries, makeDocuments } from '../../../cli/reference/documents.ts';
import { daemonOptions } from '../../../cli/reference/options-table.ts';
import { describeAll, leaves } from '../../../cli/reference/recorder.ts';
import { roffText } from '../../../cli/reference/roff.ts';
import { MEMNODE, installedMemcloud, memcloud, runProgram } from '../../helpers/lab-node.ts';

const ROOT = path.join(import.meta.dirname, '../../../..');

function read(name: string): string {
  return fs.readFileSync(path.join(ROOT, name), 'utf8');
}

const entries = describeAll(await everyCommand());

t.test('the documents in the repository are those of the tables; else: npm run man', async (t) => {
  for (const [name, text] of await makeDocuments(read)) t.ok(text === read(name), name);
});

t.test('every command and option is described, and no name is taken twice', (t) => {
  const seen = new Set<string>();
  for (const { words, aliases, describe, options, positionals } of leaves(entries)) {
    const line = words.join(' ');
    for (const name of [
      line,
      ...aliases.map((alias) => [...words.slice(0, -1), alias].join(' ')),
    ]) {
      t.notOk(seen.has(name), name);
      seen.add(name);
    }
    t.not(describe, '', line);
    for (const each of [...options, ...positionals])
      t.not(each.describe, '', `${line} ${each.name}`);
    const names = [...options, ...globalEntries()].flatMap(({ name, aliases: more }) => [
      name,
      ...more,
    ]);
    t.equal(new Set(names).size, names.length, `${line}: ${names.join(' ')}`);
  }
  t.end();
});

t.test('memnode(8) has the options of memnode --help and no other', async (t) => {
  const { stdout } = await runProgram([MEMNODE, '--help']);
  const helped = [...stdout.matchAll(/^ {2,}(?:-\w, )?--([a-z-]+)/gm)].map(([, name = '']) => name);
  const own = helped.filter((name) => !['help', 'version', 'show-hidden', 'mdns'].includes(name));
  const paged = daemonOptions().map(({ name }) => name);
  t.same([...paged].filter((name) => name !== 'mdns').sort(), own.sort());
});

const hasGroff = spawnSync('groff', ['--version']).error === undefined;

t.test('groff takes the pages without a warning', { skip: !hasGroff && 'no groff here' }, (t) => {
  for (const page of ['man/memcloud.1', 'man/memnode.8']) {
    const ran = spawnSync('groff', ['-man', '-Tutf8', '-ww', '-z', path.join(ROOT, page)]);
    t.same([ran.status, ran.stderr.toString()], [0, ''], page);
  }
  t.end();
});

t.test('roff text says what it says', (t) => {
  t.equal(roffText('a-b\\c "d"'), 'a\\-b\\ec \\(dqd\\(dq');
  t.equal(roffText(".x\n'y"), "\\&.x\n\\&'y");
  t.end();
});

t.test('completion: commands, options, choices, and who knows the rest', (t) => {
  const cases: [string, readonly string[], string][] = [
    ['sta', ['status', 'stat', 'stats'], 'none'],
    ['-s /x nod', ['node'], 'none'],
    ['node sto', ['stop'], 'none'],
    ['set k v --mo', ['--mode'], 'none'],
    ['set k v --mode ', ['pinned', 'cache'], 'none'],
    ['set --mode c', ['cache'], 'none'],
    ['get ', [], 'keys'],
    ['rm a b ', [], 'keys'],
    ['get k --peer ', [], 'peers'],
    ['get k -o ', [], 'files'],
    ['drain ', [], 'peers'],
    ['stream ', [], 'files'],
    ['volume rm ', [], 'volumes'],
    ['set k ', [], 'none'],
    ['nonsense ', [], 'none'],
    ['completion ', [], 'none'],
  ];
  for (const [line, words, source] of cases) {
    const found = complete(entries, globalEntries(), line.split(' '));
    t.same([...found.words].sort(), [...words].sort(), line);
    t.equal(found.source, source, line);
  }
  t.ok(complete(entries, globalEntries(), ['']).words.includes('store'));
  t.end();
});

t.test('each script is what its shell can read, and asks the program', async (t) => {
  for (const [shell, script] of Object.entries(SCRIPTS)) {
    t.match(script, '__complete');
    const printed = await memcloud('unused', 'completion', shell);
    t.same(printed, { code: 0, signal: null, stdout: script, stderr: '' });
    const file = path.join(t.testdir(), shell);
    fs.writeFileSync(file, script);
    const ran = spawnSync(shell, ['-n', file]);
    if (ran.error !== undefined) t.comment(`no ${shell} on this machine`);
    else t.same([ran.status, ran.stderr.toString()], [0, ''], shell);
  }
  t.equal((await memcloud('unused', 'completion', 'tcsh')).code, 2);
});

t.test('bash completes through the program itself', (t) => {
  const program = installedMemcloud(t.testdir());
  const asked =
    `${SCRIPTS.bash}\nCOMP_WORDS=("${program}" node sto) COMP_CWORD=2; _memcloud\n` +
    'printf "%s\\n" "${COMPREPLY[@]}"';
  const ran = spawnSync('bash', ['--norc', '-c', asked], { env: { PATH: process.env['PATH'] } });
  t.equal(ran.stdout.toString(), 'stop\n', ran.stderr.toString());
  t.end();
});
