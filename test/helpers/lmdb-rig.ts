/** An embedded store for tests: its directory, and processes that use it and are killed. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const CHILD = fileURLToPath(import.meta.resolve('./store-child/main.js'));

/** What a call of a store that cannot serve it rejects with. */
export const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };

/** Where a store may lie; gone with the test. */
export function storeFolder(t: Test): string {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'mc-lmdb-'));
  t.teardown(() => {
    fs.rmSync(directory, { recursive: true, force: true });
  });
  return path.join(directory, 'store');
}

/** A process that uses the store; see `test/helpers/store-child/main.ts`. */
export function storeUser(
  t: Test,
  directory: string,
  mode: 'write' | 'hold',
): ChildProcess & { lines: string[] } {
  const child = spawn(process.execPath, [CHILD, `embedded:${directory}`, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  readline.createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  return Object.assign(child, { lines });
}

/** Ends a process as a power cut would. */
export async function killUser(child: ChildProcess): Promise<void> {
  const exited = once(child, 'close');
  child.kill('SIGKILL');
  await exited;
}
