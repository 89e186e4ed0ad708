/** The log as a file: short whatever is said, with the last words of a crash, and only its owner's. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';

const MODULE = path.join(import.meta.dirname, '../../daemon/log-file.js');

/** Runs a program that has its stderr kept in a file. */
async function run(
  file: string,
  program: string,
): Promise<{ code: number | null; stderr: string }> {
  const text = `import { keepLogFile, tendLog } from ${JSON.stringify(MODULE)};
    import fs from 'node:fs';
    const file = ${JSON.stringify(file)};
    keepLogFile(file);
    ${program}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stderr };
}

t.test(
  'what is said to stderr is in the file, for its owner alone, a crash included',
  async (t) => {
    const file = path.join(t.testdir(), 'deep/er/log');
    const { code, stderr } = await run(file, `console.error('said'); throw new Error('crashed');`);
    t.equal(code, 1);
    t.equal(stderr, '');
    t.match(fs.readFileSync(file, 'utf8'), /^said\n[^]*Error: crashed/);
    t.equal(fs.statSync(file).mode & 0o777, 0o600);
    await run(file, `console.error('later');`);
    t.match(fs.readFileSync(file, 'utf8'), /^said\n[^]*later\n$/, 'it goes on where it was');
  },
);

t.test('a long log is put aside whole, and only one older part is kept', async (t) => {
  const file = path.join(t.testdir(), 'log');
  await run(
    file,
    `for (const letter of 'abc') {
      console.error(letter.repeat(100));
      tendLog(file, 50);
    }
    console.error('end');
    tendLog(file, 50);`,
  );
  t.equal(fs.readFileSync(file, 'utf8'), 'end\n');
  t.equal(fs.readFileSync(`${file}.1`, 'utf8'), `${'c'.repeat(100)}\n`);
  t.equal(fs.statSync(`${file}.1`).mode & 0o777, 0o600);
  t.same(fs.readdirSync(path.dirname(file)).sort(), ['log', 'log.1']);
});

t.test('a log that was moved away is begun anew', async (t) => {
  const file = path.join(t.testdir(), 'log');
  await run(
    file,
    `console.error('one'); fs.renameSync(file, file + '.moved'); tendLog(file); console.error('two');`,
  );
  t.equal(fs.readFileSync(`${file}.moved`, 'utf8'), 'one\n');
  t.equal(fs.readFileSync(file, 'utf8'), 'two\n');
});

t.test('what is no file is refused', async (t) => {
  const folder = t.testdir({ aim: '' });
  fs.symlinkSync(path.join(folder, 'aim'), path.join(folder, 'link'));
  for (const place of [folder, path.join(folder, 'link'), '/dev/null']) {
    const { stderr } = await run(place, '');
    t.match(stderr, /ERR_CONFIG|log-file: /, place);
  }
  t.equal(fs.readFileSync(path.join(folder, 'aim'), 'utf8'), '');
});
