/**
 * Entering the kit: the process starts anew with the same pid, words, files and environment, and
 * what it may not have costs nothing. The scheduling policy stands for all parts here, since a
 * container often may set that and nothing else; the guest tests have the rest.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { KitPart } from '../../common/kit-status.ts';

const PROGRAM = path.join(import.meta.dirname, '../helpers/kit/main.js');
const IO_FLUSHER_FLAGS = 0x80000 | 0x100000;

interface Seen {
  pid: number;
  argv: string[];
  marker: string | null;
  stdin: string;
  passed: boolean | null;
  childFlags: number;
  originalOomScore: number;
  parts: KitPart[];
}

async function enter(
  t: Test,
  priority: number,
  options: { env?: Record<string, string>; words?: string[]; file?: string } = {},
): Promise<Seen & { spawned: number }> {
  const { env = {}, words = [], file } = options;
  const fd = file === undefined ? 'ignore' : fs.openSync(file, 'r');
  // The shell knows its pid before node has it: what LISTEN_PID needs.
  const shell = ['-c', 'LISTEN_PID=$$ exec "$@"', 'sh', process.execPath];
  const child = spawn('/bin/sh', [...shell, PROGRAM, String(priority), ...words], {
    stdio: ['pipe', 'pipe', 'inherit', fd],
    env: { PATH: process.env['PATH'], ...env },
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  if (typeof fd === 'number') fs.closeSync(fd);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stdin?.end('from the parent');
  const [code] = (await once(child, 'close')) as [number];
  t.equal(code, 0);
  return { ...(JSON.parse(text) as Seen), spawned: child.pid ?? 0 };
}

function part(seen: Seen, name: string): KitPart | undefined {
  return seen.parts.find((row) => row.part === name);
}

/** Whether this process may set a real-time policy: CAP_SYS_NICE. */
function mayBeRealtime(): boolean {
  const bits = /^CapEff:\s*([0-9a-f]+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))?.[1];
  return ((BigInt(`0x${bits ?? '0'}`) >> 23n) & 1n) === 1n;
}

t.test('without anything to gain the program just goes on', async (t) => {
  const seen = await enter(t, 0, { words: ['a', 'b c'] });
  t.equal(seen.pid, seen.spawned);
  t.same(seen.argv, ['0', 'a', 'b c']);
  t.equal(seen.marker, null);
  t.equal(seen.stdin, 'from the parent');
  t.equal(seen.childFlags & IO_FLUSHER_FLAGS, 0, 'a child does not inherit the flag');
});

const skip = mayBeRealtime() ? false : 'CAP_SYS_NICE is missing';
t.test(
  'the new self has the same pid, words and files, and its threads the policy',
  { skip },
  async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kit-'));
    t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
    const file = path.join(folder, 'passed');
    fs.writeFileSync(file, '');
    const env = { LISTEN_FDS: '1' };
    const seen = await enter(t, 7, { words: ['--x', 'ä "q"'], env, file });
    t.equal(seen.pid, seen.spawned);
    t.same(seen.argv, ['7', '--x', 'ä "q"']);
    t.equal(seen.marker, null, 'children do not inherit the marker');
    t.equal(seen.stdin, 'from the parent');
    t.equal(seen.passed, true, 'a passed socket is still open');
    t.match(part(seen, 'realtime'), { active: true, detail: /^(\d+) of \1 threads, priority 7$/ });
    t.equal(seen.originalOomScore, Number(fs.readFileSync('/proc/self/oom_score_adj', 'utf8')));
  },
);

t.test('a marker of another process is not believed', { skip }, async (t) => {
  const seen = await enter(t, 3, { env: { KIT_OF_MEMCLOUD: '1:-1000' } });
  t.match(part(seen, 'realtime'), { active: true });
  t.not(seen.originalOomScore, -1000);
});
