/**
 * Runs test files with tap, each in a process of its own, several at a time, as one stream of TAP.
 *
 * usage: node dist/test/run.js [--jobs N] [--timeout SECONDS] [FILE...]
 *
 * Without files: all but those of `e2e/`, `interop/` and `fuzz/`. tap's own command does the same, and lets every
 * process that a test starts, our daemons too, load a watcher that tells it each module: half of the processor time
 * of these tests, which nothing but a measurement of coverage needs (`npm run coverage`).
 */
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import t from 'tap';

const ROOT = path.join(import.meta.dirname, '../..');
const TESTS = path.relative(ROOT, import.meta.dirname);
/** Each has a script of its own in package.json. */
const APART = ['e2e', 'interop', 'fuzz'];
/** Begun before all others: nobody waits for a file of minutes at the end. */
const LONGEST = 'posix';
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function unitTests(): string[] {
  const all = fs.readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' });
  const folderOf = (name: string): string => name.split(path.sep)[0] ?? '';
  const rank = (name: string): number => (folderOf(name) === LONGEST ? 0 : 1);
  return all
    .filter((name) => name.endsWith('.test.js') && !APART.includes(folderOf(name)))
    .sort()
    .sort((one, other) => rank(one) - rank(other))
    .map((name) => path.join(TESTS, name));
}

const { values, positionals } = parseArgs({
  options: {
    jobs: { type: 'string', default: '3' },
    timeout: { type: 'string', default: '300' },
  },
  allowPositionals: true,
});
const files = positionals.length === 0 ? unitTests() : positionals;
const jobs = Number(values.jobs);
const running = new Set<ChildProcess>();
let endedBy: NodeJS.Signals | undefined;
// Tests end in order, and take away what they made; those that are not begun do not begin.
for (const signal of SIGNALS) {
  process.on(signal, () => {
    endedBy = signal;
    for (const child of running) child.kill(signal);
  });
}
t.on('spawn', (spawned) => {
  spawned.once('process', (child: ChildProcess) => {
    running.add(child);
    if (endedBy !== undefined) child.kill(endedBy);
    child.once('exit', () => {
      running.delete(child);
      if (endedBy !== undefined && running.size === 0) process.exit(1);
    });
  });
});
t.setTimeout(0);
t.jobs = jobs;
t.plan(files.length);
for (const file of files) {
  // tap puts its watcher into NODE_OPTIONS; what is begun without it begins nothing with it.
  const command = ['--unset=NODE_OPTIONS', process.execPath, '--enable-source-maps', file];
  void t.spawn('env', command, {
    name: file,
    cwd: ROOT,
    env: { ...process.env, TAP_TIMEOUT: values.timeout },
    timeout: Number(values.timeout) * 1000,
    buffered: jobs > 1,
  });
}
