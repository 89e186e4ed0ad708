/**
 * Locked pools and V8 in one process: a heap that grows and shrinks for a while, pools that come and
 * go locked, a Worker that starts and ends, and a clean exit. The control is the way that is
 * forbidden here: mlockall makes the same program abort within a second.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import t from 'tap';

const PROGRAM = path.join(import.meta.dirname, '../helpers/locked-heap/main.js');
const SECONDS = 12;

async function run(
  ...words: string[]
): Promise<{ code: number | null; signal: string | null; out: string; err: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 90_000,
    killSignal: 'SIGKILL',
    env: { PATH: process.env['PATH'] },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, out, err };
}

t.test('our locked pools do not disturb V8', async (t) => {
  const { code, signal, out, err } = await run(String(SECONDS));
  t.match({ code, signal, err }, { code: 0, signal: null, err: '' });
  const seen = JSON.parse(out) as { rounds: number; locked: boolean; lockedKb: number };
  t.ok(seen.rounds > 10, `${seen.rounds} rounds`);
  if (seen.locked) t.ok(seen.lockedKb >= 16 * 1024, `${seen.lockedKb} kB locked`);
  else t.comment('this user may not lock memory: nothing was');
});

const skip = process.geteuid?.() === 0 ? false : 'only root may lock everything';
t.test('mlockall does, which is why nothing here calls it', { skip }, async (t) => {
  const { code, signal, err } = await run(String(SECONDS), 'mlockall');
  t.ok(code !== 0 || signal !== null, 'it aborts; once a V8 does not, this rule may go');
  t.match(err, /Check failed: 0 == ret/);
});
