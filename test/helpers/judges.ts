/** Runs programs that we did not write, for interop tests. A missing one is a skip with its reason. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Debian's python modules (nbdsh) are not seen by a python that stands before it in PATH; cargo is where rustup puts it. */
const JUDGE_PATH = `/usr/bin:/bin:/usr/sbin:/sbin:${path.join(os.homedir(), '.cargo/bin')}`;

/** How a judge ended. */
export interface JudgeResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** `{ skip: reason }` when one of the programs is missing, for tap's options. */
export function requires(...programs: string[]): { skip: string | false } {
  const missing = programs.filter(
    (program) => !JUDGE_PATH.split(':').some((dir) => fs.existsSync(path.join(dir, program))),
  );
  return { skip: missing.length > 0 && `${missing.join(', ')} is not installed` };
}

/** Runs a program to its end, at most `timeoutMs`; never rejects for a failure of the program. */
export function judge(
  program: string,
  args: readonly string[],
  options: { timeoutMs?: number; input?: string; cwd?: string } = {},
): Promise<JudgeResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, PATH: JUDGE_PATH },
      cwd: options.cwd,
      timeout: options.timeoutMs ?? 60_000,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
  });
}

/** Bytes of `length` that do not compress and repeat for a seed. */
export function patternBytes(length: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed | 1;
  for (let i = 0; i < words.length; i += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}
