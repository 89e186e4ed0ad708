/**
 * A memnode process of the demo: its own state, key, socket and port, started from this build and
 * ended for certain.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MemcloudError } from '../../common/errors.ts';
import { MemcloudClient } from '../../sdk/client.ts';

const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;

/** The built daemon beside this file. */
export const MEMNODE_FILE = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));

/** How to start a node. */
export interface NodeProcessOptions {
  /** Its name. */
  readonly name: string;
  /** A directory that it gets a folder of its own in. */
  readonly folder: string;
  /** What it lends, such as `1G`. */
  readonly offer: string;
  /** Where it takes peers, `HOST:PORT`; by default any port of the loopback. */
  readonly listen?: string;
  /** Peers that it dials, `HOST:PORT`. */
  readonly connect?: readonly string[];
}

interface Ready {
  readonly nodeId: string;
  readonly peerAddress: string;
}

/** The process. */
export class NodeProcess {
  /** Its name. */
  readonly name: string;
  /** Its RPC socket. */
  readonly socketPath: string;
  /** Where peers reach it. */
  readonly peerAddress: string;
  readonly #child: ChildProcess;

  private constructor(name: string, socketPath: string, ready: Ready, child: ChildProcess) {
    this.name = name;
    this.socketPath = socketPath;
    this.peerAddress = ready.peerAddress;
    this.#child = child;
  }

  /** Starts a node and waits for its ready line. @throws MemcloudError `ERR_TIMEOUT`, `ERR_INTERNAL` */
  static async start(options: NodeProcessOptions): Promise<NodeProcess> {
    const { name, folder, offer, listen = '127.0.0.1:0', connect = [] } = options;
    const socketPath = path.join(folder, `${name}.sock`);
    const child = spawn(
      process.execPath,
      [
        ...[
          MEMNODE_FILE,
          '--json',
          '--no-mdns',
          '--no-peer-exchange',
          '--auto-trust',
          '--name',
          name,
        ],
        ...['--state', path.join(folder, name), '--socket', socketPath],
        ...['--listen', listen, '--offer', offer, '--log-level', 'warn'],
        // Each process plays a machine; by the kernel they would be one, and hold one copy between them.
        ...['--host', name],
        ...connect.flatMap((address) => ['--connect', address]),
      ],
      // A group of its own: Ctrl-C is for the demo, which then ends its nodes in order.
      { stdio: ['ignore', 'pipe', 'pipe'], detached: true },
    );
    let complaint = '';
    child.stderr.on(
      'data',
      (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(-4096)),
    );
    const lines = readline.createInterface({ input: child.stdout });
    const timer = setTimeout(() => child.kill('SIGKILL'), READY_TIMEOUT_MS);
    const line = await Promise.race([
      once(lines, 'line').then(([text]) => String(text)),
      once(child, 'exit').then(() => undefined),
    ]);
    clearTimeout(timer);
    if (line === undefined) {
      throw new MemcloudError('ERR_INTERNAL', `memnode ${name} did not start: ${complaint.trim()}`);
    }
    return new NodeProcess(name, socketPath, JSON.parse(line) as Ready, child);
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

  /** Kills it as a power cut would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Ends it in order; kills it when that takes too long. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#end('SIGTERM');
    clearTimeout(timer);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    await ended;
  }
}
