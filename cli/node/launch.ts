/** Starts memnode as a process that outlives this command, and waits until it can be used. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '../../common/directory.ts';
import { ExitCode, MemcloudError, type ErrorCode } from '../../common/errors.ts';

/** A small machine takes its time to load a program. */
const READY_TIMEOUT_MS = 60_000;
/** Bytes of a log that are told when a start failed. */
const TOLD_SIZE_MAX_BYTES = 4096;

/** The built daemon beside this file. */
const MEMNODE_FILE = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));

/** What memnode says when it is ready. */
export interface Ready {
  /** What it calls itself. */
  readonly name: string;
  /** Its node id. */
  readonly nodeId: string;
  /** Where peers reach it. */
  readonly peerAddress: string;
  /** Its RPC socket. */
  readonly socketPath: string;
  /** What it lends, bytes. */
  readonly offerBytes: number;
}

function openLog(file: string): number {
  try {
    makeDirectory(path.dirname(file), 0o700);
    const { O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW } = fs.constants;
    return fs.openSync(file, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_CONFIG', `cannot write the log ${file}: ${code}`, { cause });
  }
}

/** What was written to the log from `from` on: the reason of an end, in memnode's words. */
function lastWords(fd: number, from: number): string {
  const { size } = fs.fstatSync(fd);
  const begin = Math.max(from > size ? 0 : from, size - TOLD_SIZE_MAX_BYTES);
  const bytes = Buffer.alloc(size - begin);
  const count = fs.readSync(fd, bytes, 0, bytes.length, begin);
  const lines = bytes.toString('utf8', 0, count).trim().split('\n');
  // Its own sentence rather than the log around it.
  const sentences = lines.filter((line) => line.startsWith('memnode: '));
  return (sentences.length > 0 ? sentences.map((line) => line.slice(9)) : lines).join('\n');
}

/** The code that stands for an exit code of memnode. */
function codeOfExit(exitCode: number | null): ErrorCode {
  return exitCode === ExitCode.USAGE ? 'ERR_CONFIG' : 'ERR_DAEMON_BUSY';
}

async function readyLine(child: ChildProcess): Promise<Ready | undefined> {
  if (child.stdout === null) return undefined;
  const lines = readline.createInterface({ input: child.stdout });
  const timeout = AbortSignal.timeout(READY_TIMEOUT_MS);
  try {
    const [line] = (await Promise.race([
      once(lines, 'line', { signal: timeout }),
      once(child, 'close', { signal: timeout }).then(() => [undefined]),
    ])) as [string | undefined];
    return line === undefined ? undefined : (JSON.parse(line) as Ready);
  } finally {
    lines.close();
  }
}

/**
 * Starts memnode in the background.
 *
 * @param options - options of memnode, `--log-file` among them
 * @param logFile - the file of that option; what memnode says before it opens it comes there too
 * @returns its process id and its ready line
 * @throws MemcloudError `ERR_CONFIG` when it refuses its options, `ERR_DAEMON_BUSY` when it ended otherwise,
 *   `ERR_TIMEOUT` when it was not ready in time, and was ended
 */
export async function launchNode(
  options: readonly string[],
  logFile: string,
): Promise<{ pid: number; ready: Ready }> {
  const log = openLog(logFile);
  try {
    const from = fs.fstatSync(log).size;
    const child = spawn(process.execPath, [MEMNODE_FILE, '--json', ...options], {
      stdio: ['ignore', 'pipe', log],
      detached: true,
    });
    const ended = once(child, 'close') as Promise<[number | null]>;
    ended.catch(() => undefined);
    let ready: Ready | undefined;
    try {
      ready = await readyLine(child);
    } catch (cause) {
      child.kill('SIGTERM');
      throw new MemcloudError(
        'ERR_TIMEOUT',
        `memnode was not ready within ${READY_TIMEOUT_MS / 1000} s and was ended; see ${logFile}`,
        { cause },
      );
    }
    const { pid } = child;
    if (ready === undefined || pid === undefined) {
      const [exitCode] = await ended;
      const words = lastWords(log, from) || `exit code ${exitCode ?? 'none'}`;
      throw new MemcloudError(codeOfExit(exitCode), `memnode did not start: ${words}`);
    }
    child.stdout?.destroy();
    child.unref();
    return { pid, ready };
  } finally {
    fs.closeSync(log);
  }
}

/** Runs memnode with our own terminal; resolves to its exit code, 128 + n for signal n. */
export function runNode(options: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MEMNODE_FILE, ...options], { stdio: 'inherit' });
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const signal of signals) process.on(signal, forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const name of signals) process.off(name, forward);
      resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]));
    });
  });
}
