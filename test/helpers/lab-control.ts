/** Real control node processes for tests: started from the build, ended by pid with the test. */
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import type { Test } from 'tap';
import type { MemberRole } from '../../common/managed.ts';
import type { ControlMember } from '../../common/rpc-control.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import {
  CLEAN_ENV,
  eventually,
  memcloud,
  memcloudJson,
  type Ended,
  type LabNode,
} from './lab-node.ts';
import { freeAddress } from './free-ports.ts';
import { endChild, launchLabProcess } from './lab-process.ts';

const ROOT = path.join(import.meta.dirname, '../..');
/** The built control node. */
export const CONTROL_NODE = path.join(ROOT, 'daemon/control-main.js');
const START_TIMEOUT_MS = 30_000;

/** How to start a control node. */
export interface LabControlOptions {
  name: string;
  /** Of the test: its state and its socket come there, by its name. */
  folder: string;
  /** Default: `embedded:` in its state directory. */
  store?: string;
  /** Default: a port of the system's choice on loopback. */
  listen?: string;
  /** Words before the program, such as `ip netns exec NAME` or `faketime`. */
  launcher?: readonly string[];
  /** More flags. */
  flags?: readonly string[];
  /** More variables. */
  env?: NodeJS.ProcessEnv;
}

/** A control node process. */
export class LabControl {
  readonly name: string;
  readonly nodeId: string;
  /** Where members reach it. */
  readonly peerAddress: string;
  readonly socketPath: string;
  readonly child: ChildProcess;
  readonly #options: LabControlOptions;
  readonly #stderr: () => string;

  private constructor(
    options: LabControlOptions,
    ready: Record<string, string>,
    child: ChildProcess,
    stderr: () => string,
  ) {
    this.#options = options;
    this.name = options.name;
    this.nodeId = String(ready['nodeId']);
    this.peerAddress = String(ready['peerAddress']);
    this.socketPath = String(ready['socketPath']);
    this.child = child;
    this.#stderr = stderr;
  }

  /** Starts a control node; the test ends it if it still lives. It may not lead yet: {@link LabControl.waitForLeader}. */
  static async start(t: Test, options: LabControlOptions): Promise<LabControl> {
    const { name, folder, store, listen = await freeAddress(), launcher = [] } = options;
    const [program = '', ...args] = [
      ...launcher,
      ...[process.execPath, CONTROL_NODE, '--json', '--name', name, '--listen', listen],
      ...['--state', path.join(folder, name), '--socket', path.join(folder, `${name}.sock`)],
      ...(store === undefined ? [] : ['--store', store]),
      ...(options.flags ?? []),
    ];
    const { child, line, stderr } = await launchLabProcess(t, program, args, {
      env: { ...CLEAN_ENV, ...options.env },
      timeoutMs: START_TIMEOUT_MS,
    });
    if (line === undefined) throw new Error(`control node ${name} did not start: ${stderr()}`);
    return new LabControl(options, JSON.parse(line) as Record<string, string>, child, stderr);
  }

  /** The flags by which a memnode takes part: it knows this control node, and trusts it unasked. */
  get memberFlags(): string[] {
    const target = `${this.nodeId}@${this.peerAddress}`;
    return ['--control-plane', target, '--trust-fingerprint', this.nodeId];
  }

  /** Its log so far. */
  get log(): string {
    return this.#stderr();
  }

  /** Starts a new process on the same state, at the same address. */
  again(t: Test): Promise<LabControl> {
    return LabControl.start(t, { ...this.#options, listen: this.peerAddress });
  }

  /** Sends a signal and waits for the end. */
  async end(
    signal: NodeJS.Signals,
  ): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    await endChild(this.child, signal);
    return { code: this.child.exitCode, signal: this.child.signalCode };
  }

  /** Runs `work` with a connection to its socket. */
  async use<T>(work: (client: MemcloudClient) => Promise<T>): Promise<T> {
    const client = await MemcloudClient.connect(this.socketPath);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** One call of the control plane, as an admin. */
  async call<C extends ManagedCall>(
    call: C,
    params: ManagedParams<C> | Record<string, never> = {},
  ): Promise<ManagedResult<C>> {
    const answer = await this.use((client) => client.call('control.call', { call, params }));
    return answer as ManagedResult<C>;
  }

  /** `memcloud control-plane WORDS` on its socket. */
  cli(...words: string[]): Promise<Ended> {
    return memcloud(this.socketPath, 'control-plane', ...words);
  }

  /** `memcloud --json control-plane WORDS`, which must succeed. */
  cliJson<T>(t: Test, ...words: string[]): Promise<T> {
    return memcloudJson<T>(t, this.socketPath, 'control-plane', ...words);
  }

  /** Makes a node a member by its id; it need not run yet. */
  addMember(
    nodeId: string,
    roles: readonly MemberRole[],
    limits: { quotaBytes?: number | null; quotaLeases?: number | null; name?: string } = {},
  ): Promise<ControlMember> {
    return this.call('admin.member-put', { key: nodeId, roles: [...roles], ...limits });
  }

  /** Waits until some control node leads, as this one sees it. @returns its node id */
  async waitForLeader(timeoutMs = 15_000): Promise<string> {
    let leader = '';
    await eventually(
      `a leader, as ${this.name} sees it`,
      async () => {
        const hello = await this.call('control.hello').catch(() => undefined);
        leader = hello?.leader ?? '';
        // One that was just elected still reads its store.
        return leader !== '' && (leader !== this.nodeId || hello?.leads === true);
      },
      timeoutMs,
    );
    return leader;
  }

  /** Waits until a node is a connected member. */
  async waitForMember({ nodeId, name }: Pick<LabNode, 'nodeId' | 'name'>): Promise<void> {
    await eventually(`${name} is a connected member of ${this.name}`, async () => {
      const { rows } = await this.call('admin.members', { countMax: 500 });
      return rows.some((row) => row.nodeId === nodeId && row.connected);
    });
  }

  /** Waits until a provider is `up` (or another state). */
  async waitForProvider(
    { nodeId, name }: Pick<LabNode, 'nodeId' | 'name'>,
    state = 'up',
    timeoutMs?: number,
  ): Promise<void> {
    await eventually(
      `provider ${name} is ${state} at ${this.name}`,
      async () => {
        const { rows } = await this.call('admin.providers', { countMax: 500 });
        return rows.some((row) => row.nodeId === nodeId && row.state === state);
      },
      timeoutMs,
    );
  }
}
