/**
 * Runs the POSIX suite on a directory in another process, and makes each case a test. Where a file
 * system is known to differ, the case must differ: a difference that went away is to be struck off.
 */
import { spawn } from 'node:child_process';
import readline from 'node:readline';
import type { Test } from 'tap';

const WORKER = new URL('../helpers/posix-worker/main.js', import.meta.url).pathname;

/** How long one case may take on a slow machine under load; the long form of many files is longer. */
const CASE_TIMEOUT_MS = Number(process.env['POSIX_CASE_SECONDS'] ?? 240) * 1000;

/** What the suite is run on. */
export interface SuiteTarget {
  /** An empty directory; cases leave it empty. */
  directory: string;
  /** Also the cases with very many files. */
  large: boolean;
  /** Cases that are known to fail here, `group: case`, with the reason. */
  differences?: Readonly<Record<string, string>>;
}

type Line =
  | { group: string; name: string }
  | { skip: string }
  | { ok: true }
  | { ok: false; message: string }
  | { untidy: string };

/** Tries every case; each is one assertion of `t`. Ends when the worker has ended. */
export async function runPosixSuite(t: Test, target: SuiteTarget): Promise<void> {
  const differences = target.differences ?? {};
  const args = [WORKER, 'suite', target.directory, ...(target.large ? ['large'] : [])];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: '/' });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-4000)));
  const ended = new Promise<string>((resolve) => {
    child.once('close', (code, signal) => resolve(signal ?? `status ${code}`));
  });

  let current = 'the first case';
  let count = 0;
  const watch = setTimeout(() => {
    t.fail(`${current}: no end within ${CASE_TIMEOUT_MS / 1000} s`);
    child.kill('SIGKILL');
  }, CASE_TIMEOUT_MS);
  for await (const text of readline.createInterface({ input: child.stdout })) {
    watch.refresh();
    const line = JSON.parse(text) as Line;
    if ('name' in line) {
      current = `${line.group}: ${line.name}`;
    } else if ('untidy' in line) {
      // A case that stopped half-way has files open, which not every transport can hide.
      if (differences[current] === undefined) {
        t.fail(`${current}: its files cannot be removed: ${line.untidy}`);
      }
    } else {
      count += 1;
      const reason = differences[current];
      if ('skip' in line) t.pass(current, { skip: line.skip });
      else if (reason !== undefined) t.notOk(line.ok, `${current}: differs, because ${reason}`);
      else if (line.ok) t.pass(current);
      else t.fail(`${current}: ${line.message}`);
    }
  }
  clearTimeout(watch);
  t.equal(await ended, 'status 0', `the worker ended by itself ${errors}`);
  t.ok(count > 200, `${count} cases`);
}
