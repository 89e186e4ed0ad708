/**
 * NBD servers that we did not write, as oracles: nbdkit and qemu-nbd. Each is a child in the
 * foreground that ends with the test.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';

const START_TIMEOUT_MS = 10_000;
const FOLDERS = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'];

/** A running server. */
export interface OracleServer {
  /** Its process. */
  readonly process: ChildProcess;
  /** Where it listens. */
  readonly address: { host: string; port: number } | { path: string };
  /** Kills it as a crash would and waits until it is gone. */
  kill(): Promise<void>;
}

/** Why tests with these programs must be skipped; false when all are there. */
export function skipWithout(...programs: string[]): string | false {
  const missing = programs.filter(
    (program) => !FOLDERS.some((folder) => existsSync(path.join(folder, program))),
  );
  return missing.length === 0 ? false : `not installed: ${missing.join(', ')}`;
}

/** Starts nbdkit on a Unix socket, or on a TCP port of the loopback when one is given. */
export async function startNbdkit(
  t: Test,
  pluginArguments: string[],
  port?: number,
): Promise<OracleServer> {
  const socket = path.join(temporaryFolder(t), 'nbd.sock');
  const listen = port === undefined ? ['-U', socket] : ['-i', '127.0.0.1', '-p', `${port}`];
  const address = port === undefined ? { path: socket } : { host: '127.0.0.1', port };
  return start(t, 'nbdkit', ['-f', '--exit-with-parent', ...listen, ...pluginArguments], address);
}

/** Starts qemu-nbd on a Unix socket. */
export async function startQemuNbd(t: Test, imageArguments: string[]): Promise<OracleServer> {
  const socket = path.join(temporaryFolder(t), 'nbd.sock');
  const common = ['--persistent', '--shared=0', `--socket=${socket}`];
  return start(t, 'qemu-nbd', [...common, ...imageArguments], { path: socket });
}

/** A folder that goes with the test; short, because socket paths are bounded. */
export function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'mc-nbd-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function start(
  t: Test,
  program: string,
  programArguments: string[],
  address: OracleServer['address'],
): Promise<OracleServer> {
  const child = spawn(program, programArguments, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, PATH: `${process.env['PATH']}:${FOLDERS.join(':')}` },
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const exited = once(child, 'exit').catch(() => undefined);
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  t.teardown(kill);
  const deadlineMs = Date.now() + START_TIMEOUT_MS;
  while (!(await accepts(address))) {
    if (child.exitCode !== null || Date.now() > deadlineMs) {
      throw new Error(`${program} did not start: ${errors}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { process: child, address, kill };
}

function accepts(address: OracleServer['address']): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(address);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
