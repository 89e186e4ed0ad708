/** Real memnode and memcloud processes for tests: started from the build, ended by pid with the test. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { DEFAULT_TMPFS_BASE, TmpfsDirectory } from '../../provider/tmpfs-directory.ts';
import { asMemcloudError } from '../../common/errors.ts';
import type { HandoverInfo } from '../../common/rpc-process.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { freeAddress } from './free-ports.ts';
import { endChild, launchLabProcess } from './lab-process.ts';

const ROOT = path.join(import.meta.dirname, '../..');
/** The built daemon. */
export const MEMNODE = path.join(ROOT, 'daemon/main.js');
const MEMCLOUD = path.join(ROOT, 'cli/main.js');
const START_TIMEOUT_MS = 20_000;
const PROGRAM_TIMEOUT_MS = 20_000;

/** How a program ended and what it said. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Environment without the settings of whoever runs the tests, and without their machine's files. */
export const CLEAN_ENV: NodeJS.ProcessEnv = {
  MEMCLOUD_CONFIG: '/dev/null',
  PATH: process.env['PATH'],
  HOME: process.env['HOME'],
  LANG: 'de_DE.UTF-8',
};

/** Runs a program to its end; a program that does not end within 20 s is killed. */
export async function runProgram(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  timeoutMs = PROGRAM_TIMEOUT_MS,
): Promise<Ended> {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...CLEAN_ENV, ...env },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}

/** Puts `memcloud` into a folder, as on a machine where it is installed. @returns its path */
export function installedMemcloud(folder: string): string {
  const program = path.join(folder, 'memcloud');
  fs.writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${MEMCLOUD}" "$@"\n`, {
    mode: 0o755,
  });
  return program;
}

/** Runs `memcloud` with the socket of a daemon. */
export function memcloud(socketPath: string, ...args: string[]): Promise<Ended> {
  return runProgram([MEMCLOUD, '--socket', socketPath, ...args]);
}

/** Runs `memcloud --json`, which must succeed, and returns its one JSON value. */
export async function memcloudJson<T>(t: Test, socketPath: string, ...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await memcloud(socketPath, '--json', ...args);
  t.equal(code, 0, `memcloud ${args.join(' ')} ${stderr}`);
  t.equal(stdout.trimEnd().split('\n').length, 1, 'one line of JSON');
  return JSON.parse(stdout) as T;
}

/** How to start a node. */
export interface LabNodeOptions {
  name: string;
  folder: string;
  offer?: string;
  connect?: readonly string[];
  autoTrust?: boolean;
  listen?: string;
  leaseTtlS?: number;
  /** The machine that it plays; default: its name; empty: that of the kernel. */
  host?: string;
  zone?: string;
  /** RAM that it leaves to its owner; above what is available it asks everything back. */
  reserve?: string;
  recallGraceS?: number;
  /** The file that says what to offer and whom to connect, instead of flags. */
  configFile?: string;
  /** Words before the program, such as `ip netns exec NAME`. */
  launcher?: readonly string[];
  /** Announce it and find others; default: false, for labs on one machine must not meet. */
  mdns?: boolean;
  /** Tell trusted peers of each other; default: false. */
  peerExchange?: boolean;
  /** More flags. */
  flags?: readonly string[];
  /** More variables. */
  env?: NodeJS.ProcessEnv;
  /** Options of node itself. */
  nodeOptions?: readonly string[];
}

/** A memnode process. */
export class LabNode {
  readonly name: string;
  readonly socketPath: string;
  readonly nodeId: string;
  readonly peerAddress: string;
  readonly child: ChildProcess;
  readonly #stderr: () => string;

  private constructor(
    options: LabNodeOptions,
    ready: Record<string, string>,
    child: ChildProcess,
    stderr: () => string,
  ) {
    this.name = options.name;
    this.socketPath = String(ready['socketPath']);
    this.nodeId = String(ready['nodeId']);
    this.peerAddress = String(ready['peerAddress']);
    this.child = child;
    this.#stderr = stderr;
  }

  /** Starts a node; the test kills it at its end if it still lives. */
  static async start(t: Test, options: LabNodeOptions): Promise<LabNode> {
    const {
      name,
      folder,
      offer = '0',
      connect = [],
      configFile,
      autoTrust = true,
      listen = await freeAddress(),
    } = options;
    const [program = '', ...args] = [
      ...(options.launcher ?? []),
      ...[process.execPath, ...(options.nodeOptions ?? [])],
      ...[MEMNODE, '--json', '--name', name, '--listen', listen],
      ...(configFile === undefined ? ['--offer', offer] : ['--config', configFile]),
      ...['--state', path.join(folder, name), '--socket', path.join(folder, `${name}.sock`)],
      // Each process plays a machine; by the kernel they would be one, and hold one copy between them.
      ...(options.host === '' ? [] : ['--host', options.host ?? name]),
      ...(options.zone === undefined ? [] : ['--zone', options.zone]),
      ...(autoTrust ? ['--auto-trust'] : []),
      ...(options.mdns === true ? [] : ['--no-mdns']),
      ...(options.peerExchange === true ? [] : ['--no-peer-exchange']),
      ...(options.flags ?? []),
      ...(options.reserve === undefined ? [] : ['--reserve', options.reserve]),
      ...(options.recallGraceS === undefined ? [] : ['--recall-grace', `${options.recallGraceS}`]),
      ...(options.leaseTtlS === undefined ? [] : ['--lease-ttl', String(options.leaseTtlS)]),
      ...connect.flatMap((address) => ['--connect', address]),
    ];
    const { child, line, stderr } = await launchLabProcess(t, program, args, {
      env: { ...CLEAN_ENV, ...options.env },
      timeoutMs: START_TIMEOUT_MS,
    });
    if (line === undefined) throw new Error(`memnode ${name} did not start: ${stderr()}`);
    return new LabNode(options, JSON.parse(line) as Record<string, string>, child, stderr);
  }

  /**
   * Replaces the process by a new one, as `memcloud restart` does.
   *
   * @returns the process id that runs now, which the test ends
   */
  async restart(t: Test, ...flags: string[]): Promise<{ pid: number; handover: HandoverInfo }> {
    const ended = once(this.child, 'exit');
    const handover = await memcloudJson<HandoverInfo>(t, this.socketPath, 'restart', ...flags);
    const { pid } = await this.use((client) => client.call('status', {}));
    t.teardown(() => endProcess(pid));
    if (handover.fromPid === this.child.pid) {
      t.same(await ended, [0, null], 'the one before ended well');
    }
    return { pid, handover };
  }

  /** Its log so far. */
  get log(): string {
    return this.#stderr();
  }

  /** Sends a signal and waits for the end. */
  async end(
    signal: NodeJS.Signals,
  ): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    await endChild(this.child, signal);
    return { code: this.child.exitCode, signal: this.child.signalCode };
  }

  /** Runs `work` with a connection to the node. */
  async use<T>(work: (client: MemcloudClient) => Promise<T>): Promise<T> {
    const client = await MemcloudClient.connect(this.socketPath);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** Directories that the node keeps lent pages in, by its own word. */
  memoryDirectory(): Promise<string> {
    return this.use(async (client) => (await client.call('status', {})).provider.directory);
  }

  /** Bytes that the node has lent. */
  usedBytes(): Promise<number> {
    return this.use(async (client) => (await client.call('status', {})).provider.usage.usedBytes);
  }

  /** Waits until `count` peers are up. */
  async waitForPeers(count: number): Promise<void> {
    await eventually(`${count} peers of ${this.name} up`, async () => {
      const peers = await this.use((client) => client.call('peer.list', {}));
      return peers.filter(({ state }) => state === 'up').length === count;
    });
  }
}

/** Ends a process that is no child of ours, if it still lives. */
async function endProcess(pid: number): Promise<void> {
  const isAlive = (): boolean => fs.existsSync(`/proc/${pid}`);
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!isAlive()) return;
    process.kill(pid, signal);
    for (let looks = 0; isAlive() && looks < 200; looks += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Waits until `check` holds; fails after `timeoutMs`. */
export async function eventually(
  what: string,
  check: () => boolean | Promise<boolean>,
  timeoutMs = 15_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await check())) {
    if (performance.now() > endMs) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until a node has nothing to complain of: it says what is so at this moment, and some of it mends by itself. */
export async function eventuallyHealthy(node: LabNode): Promise<void> {
  let health: readonly unknown[] = [];
  const isHealthy = async (): Promise<boolean> => {
    ({ health } = await node.use((client) => client.call('status', {})));
    return health.length === 0;
  };
  await eventually('nothing is wrong', isHealthy).catch((error: unknown) => {
    throw new Error(`${asMemcloudError(error).message}: ${JSON.stringify(health)}`);
  });
}

/** A folder that goes with the test; short, since socket paths are bounded. */
export function labFolder(t: Test): string {
  const folder = fs.mkdtempSync('/tmp/mc-lab-');
  t.teardown(() => {
    fs.rmSync(folder, { recursive: true, force: true });
    // Nodes that were killed leave their memory to the next provider: remove it as one would.
    TmpfsDirectory.open({ base: DEFAULT_TMPFS_BASE, noswap: 'off', sizeBytes: 0 }).close();
  });
  return folder;
}
