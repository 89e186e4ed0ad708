/**
 * Runs the model of random operations in processes of their own, each with its own pair of directories
 * and its own seed. `SEED=n` replays one, `FUSE_MODEL_SECONDS=n` sets how long each runs (the long
 * form: 1800).
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import type { Test } from 'tap';

const WORKER = new URL('../helpers/model-worker/main.js', import.meta.url).pathname;

/** Seconds of random operations; half of it where several processes share the machine. */
const MODEL_SECONDS = Number(process.env['FUSE_MODEL_SECONDS'] ?? 20);

/** How a run ended. */
export interface ModelEnd {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** One process of random operations, run to its end. */
export function spawnModel(
  oracle: string,
  judged: string,
  ...numbers: readonly number[]
): Promise<ModelEnd> {
  return spawnWorker([oracle, judged, ...numbers.map(String)], {});
}

function spawnWorker(args: readonly string[], env: NodeJS.ProcessEnv): Promise<ModelEnd> {
  const child = spawn(process.execPath, [WORKER, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    cwd: '/',
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) => {
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}

/** The seed of this run: a new one each time, told, unless `SEED` sets it. */
export function modelSeed(): number {
  const given = process.env['SEED'];
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}

/**
 * Random operations by several processes at once, each judged against tmpfs.
 *
 * @param base - where pairs of directories are made: tmpfs, and the file system that is judged, and whether
 *   it has extended attributes
 */
export async function runModel(
  t: Test,
  base: { oracle: string; judged: string; attributes: boolean },
  processCount: number,
): Promise<void> {
  const seed = modelSeed();
  t.comment(`SEED=${seed}`);
  const seconds = processCount > 1 ? MODEL_SECONDS / 2 : MODEL_SECONDS;
  const runs = Array.from({ length: processCount }, (_, i) => {
    const pair = [`${base.oracle}/model-${i}`, `${base.judged}/model-${i}`] as const;
    pair.forEach((path) => fs.mkdirSync(path));
    const env = { MODEL_ATTRIBUTES: base.attributes ? '1' : '0' };
    return spawnWorker([...pair, `${seed + i}`, `${seconds}`], env);
  });
  for (const [i, end] of (await Promise.all(runs)).entries()) {
    t.equal(end.status, 0, `process ${i}, SEED=${seed + i}: no difference ${end.stderr}`);
    if (end.status !== 0) continue;
    const { count } = JSON.parse(end.stdout) as { count: number };
    t.ok(count > 100, `process ${i}: ${count} operations`);
  }
}
