/**
 * Everything that a benchmark leaves outside its own process: children, mounts, one temporary directory.
 * All of it is gone when the stage is closed, also after an exception and after a signal. Children
 * are ended by their own process id, in the reverse order of their start, so that a consumer goes
 * before its provider.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MOUNT, tryUnmount } from '../common/libc.ts';

const STOP_TIMEOUT_MS = 15_000;
const READY_POLL_MS = 20;
const COMPLAINT_SIZE_MAX = 4096;
const OUTPUT_SIZE_MAX = 16 * 2 ** 20;

/** A process that stays until it is ended. */
export interface Server {
  readonly pid: number;
  /** What it wrote to stdout so far. */
  readonly output: () => string;
  /** Ends it; does nothing when it has ended. */
  readonly stop: () => Promise<void>;
}

interface Child {
  readonly process: ChildProcess;
  output: string;
  complaint: string;
}

function isOver(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (isOver(child)) return;
  const ended = once(child, 'exit');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  child.kill(signal);
  await ended;
  clearTimeout(timer);
}

/** Waits until `condition` holds. @throws Error when `timeoutMs` pass first */
export async function waitFor(
  what: string,
  timeoutMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what}: waited ${timeoutMs} ms in vain`);
    await sleep(READY_POLL_MS);
  }
}

/** See the top of the file. */
export class Stage {
  /** The temporary directory. */
  readonly directory: string;
  readonly #children = new Set<Child>();
  readonly #extraDirectories: string[] = [];
  readonly #mountPoints: string[] = [];
  #closed = false;

  constructor() {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-bench-'));
    process.on('exit', this.#abandon);
  }

  /** Makes a new directory, named after `name`, inside the temporary one. */
  makeDirectory(name: string): string {
    return fs.mkdtempSync(path.join(this.directory, `${name}-`));
  }

  /** Makes a directory elsewhere, such as on a tmpfs, that goes with the stage. */
  makeDirectoryIn(parent: string): string {
    const directory = fs.mkdtempSync(path.join(parent, 'memcloud-bench-'));
    this.#extraDirectories.push(directory);
    return directory;
  }

  /** Makes a directory for a mount, which is detached when the stage is closed, before its server ends. */
  makeMountPoint(name: string): string {
    const directory = this.makeDirectory(name);
    this.#mountPoints.push(directory);
    return directory;
  }

  /**
   * Starts a server and waits until `isReady` says so.
   *
   * @throws Error with what the process wrote to stderr, when it ends or is not ready in time
   */
  async serve(
    command: string,
    args: readonly string[],
    timeoutMs: number,
    isReady: (output: string) => boolean,
  ): Promise<Server> {
    const child = this.#spawn(command, args);
    const stop = async (): Promise<void> => {
      await end(child.process, 'SIGTERM');
      this.#children.delete(child);
    };
    try {
      await waitFor(`${command} to be ready`, timeoutMs, () => {
        if (isOver(child.process)) throw new Error(`${command} ended before it was ready`);
        return child.process.pid !== undefined && isReady(child.output);
      });
    } catch (cause) {
      await stop();
      throw new Error(`${command} did not start: ${child.complaint.trim()}`, { cause });
    }
    return { pid: child.process.pid ?? 0, output: () => child.output, stop };
  }

  /**
   * Runs a command to its end and returns its stdout.
   *
   * @throws Error with what it wrote to stderr, when it fails or takes longer than `timeoutMs`
   */
  async run(command: string, args: readonly string[], timeoutMs: number): Promise<string> {
    const child = this.#spawn(command, args);
    const timer = setTimeout(() => child.process.kill('SIGKILL'), timeoutMs);
    try {
      const [code] = (await once(child.process, 'close')) as [number | null];
      if (code !== 0) {
        const why = code === null ? `was killed (limit ${timeoutMs} ms)` : `ended with ${code}`;
        throw new Error(`${command} ${why}: ${child.complaint.trim()}`);
      }
      return child.output;
    } finally {
      clearTimeout(timer);
      this.#children.delete(child);
    }
  }

  /** Ends what still runs, newest first, and removes the directories. Nothing starts after it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#detachMounts();
    for (const child of [...this.#children].reverse()) await end(child.process, 'SIGTERM');
    this.#children.clear();
    this.#removeDirectories();
    process.removeListener('exit', this.#abandon);
  }

  #spawn(command: string, args: readonly string[]): Child {
    if (this.#closed) throw new Error(`${command}: not started, the benchmark is ending`);
    const process_ = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const child: Child = { process: process_, output: '', complaint: '' };
    process_.stdout.on('data', (chunk: Buffer) => {
      if (child.output.length < OUTPUT_SIZE_MAX) child.output += chunk.toString();
    });
    const complain = (text: string): void => {
      child.complaint = (child.complaint + text).slice(-COMPLAINT_SIZE_MAX);
    };
    process_.stderr.on('data', (chunk: Buffer) => complain(chunk.toString()));
    // A command that is not there emits this instead of an exit.
    process_.on('error', (error) => complain(error.message));
    this.#children.add(child);
    return child;
  }

  #detachMounts(): void {
    for (const directory of this.#mountPoints) tryUnmount(directory, MOUNT.MNT_DETACH);
  }

  #removeDirectories(): void {
    for (const directory of [this.directory, ...this.#extraDirectories]) {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  }

  /** The last resort, when the process ends without a close: nothing may wait here. */
  readonly #abandon = (): void => {
    this.#detachMounts();
    for (const child of this.#children) child.process.kill('SIGKILL');
    this.#removeDirectories();
  };
}
