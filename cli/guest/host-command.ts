/**
 * Runs the few programs of the host that make and boot a guest. Each call has a deadline, gets no
 * shell and no input, and ends in its output or in one error that names the program.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';

/** The most output kept of one program: bytes. */
const OUTPUT_SIZE_MAX = 16 * 2 ** 20;

/** Folders that hold system programs and that a user's PATH often lacks. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Finds a program in PATH or in the system folders; undefined when there is none. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), ...SYSTEM_FOLDERS];
  for (const folder of folders) {
    if (!path.isAbsolute(folder)) continue;
    const file = path.join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not in this folder; the next one may have it.
    }
  }
  return undefined;
}

/**
 * Runs a program to its end.
 *
 * @param options - `cwd`; `timeoutMs` after which it is killed; `environment` to add
 * @returns its standard output
 * @throws MemcloudError `ERR_GUEST` with the last line of its error output
 */
export function execute(
  program: string,
  programArguments: readonly string[],
  options: { timeoutMs: number; cwd?: string; environment?: Record<string, string> },
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      findProgram(program) ?? program,
      programArguments,
      {
        cwd: options.cwd,
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: OUTPUT_SIZE_MAX,
        env: { ...process.env, LC_ALL: 'C', ...options.environment },
      },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
          return;
        }
        const last = stderr.trim().split('\n').at(-1) ?? '';
        const message = `${program} failed: ${last === '' ? error.message : last}`;
        reject(new MemcloudError('ERR_GUEST', message, { cause: error }));
      },
    );
  });
}
