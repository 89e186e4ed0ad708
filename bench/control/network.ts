/** The managed network that is measured: a control node as users run it, its store, providers, members. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Identity } from '../../peer/identity.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { waitFor, type Server, type Stage } from '../stage.ts';
import type { ToolName } from '../targets/target.ts';
import type { ControlPlace, Expired } from './plans.ts';

const CONTROL_FILE = fileURLToPath(new URL('../../daemon/control-main.js', import.meta.url));
const PROVIDERS_FILE = fileURLToPath(new URL('./providers.js', import.meta.url));
const START_TIMEOUT_MS = 60_000;
const OFFERED_BYTES = 64 * 2 ** 30;
/** Providers in one process. */
const PROVIDERS_PER_PROCESS = 25;
const ETCD_PORT = 23_790;

/** A store that a control node can have. */
export interface ControlStore {
  readonly name: string;
  readonly description: string;
  readonly tools: readonly ToolName[];
  /** Starts what it needs. @returns what `--store` takes, and processes beside the control node */
  readonly start: (stage: Stage) => Promise<{ store: string; servers: readonly Server[] }>;
}

async function startEtcd(stage: Stage): Promise<{ store: string; servers: readonly Server[] }> {
  const [client, peer] = [ETCD_PORT, ETCD_PORT + 1].map((port) => `http://127.0.0.1:${port}`);
  const server = await stage.serve(
    'etcd',
    [
      ...[`--data-dir=${stage.makeDirectory('etcd')}`, '--log-level=error', '--logger=zap'],
      ...[`--listen-client-urls=${client}`, `--advertise-client-urls=${client}`],
      ...[`--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`],
      `--initial-cluster=default=${peer}`,
    ],
    START_TIMEOUT_MS,
    () => true,
  );
  await waitFor('etcd to be healthy', START_TIMEOUT_MS, async () => {
    const answer = await fetch(`${client}/health`).catch(() => undefined);
    return answer?.ok === true;
  });
  return { store: `etcd://127.0.0.1:${ETCD_PORT}`, servers: [server] };
}

const embedded: ControlStore = {
  name: 'embedded',
  description: 'one control node, lmdb beside it',
  tools: [],
  start: (stage) =>
    Promise.resolve({ store: `embedded:${stage.makeDirectory('store')}`, servers: [] }),
};

const etcd: ControlStore = {
  name: 'etcd',
  description: 'one control node, one member of etcd on loopback, its log synced to disk',
  tools: ['etcd'],
  start: startEtcd,
};

/** The stores. */
export const CONTROL_STORES: readonly ControlStore[] = [embedded, etcd];

/** A network that runs. */
export class Network {
  readonly place: ControlPlace;
  /** The control node. */
  readonly control: Server;
  /** What its store consists of beside it. */
  readonly storeServers: readonly Server[];
  readonly #stage: Stage;
  readonly #socketPath: string;
  readonly #providerProcesses: Server[] = [];
  readonly #providers: string[] = [];
  #memberCount = 0;

  private constructor(
    stage: Stage,
    control: Server,
    storeServers: readonly Server[],
    place: ControlPlace,
    socketPath: string,
  ) {
    this.#stage = stage;
    this.control = control;
    this.storeServers = storeServers;
    this.place = place;
    this.#socketPath = socketPath;
  }

  /** Starts a control node on a store. */
  static async start(stage: Stage, kind: ControlStore): Promise<Network> {
    const { store, servers } = await kind.start(stage);
    const directory = stage.makeDirectory('control');
    const socketPath = path.join(directory, 'control.sock');
    const args = [
      ...[CONTROL_FILE, '--json', '--name', 'bench-control', '--listen', '127.0.0.1:0'],
      ...['--store', store, '--state', path.join(directory, 'state'), '--socket', socketPath],
      ...['--log-level', 'warn'],
    ];
    const isReady = (output: string): boolean => output.includes('\n');
    const control = await stage.serve(process.execPath, args, START_TIMEOUT_MS, isReady);
    const { nodeId, peerAddress } = JSON.parse(control.output()) as Record<string, string>;
    const place = { nodeId: nodeId ?? '', address: peerAddress ?? '' };
    const network = new Network(stage, control, servers, place, socketPath);
    await waitFor('the control node to lead', START_TIMEOUT_MS, async () => {
      const hello = await network.ask('control.hello').catch(() => undefined);
      return hello?.['leads'] === true;
    });
    return network;
  }

  /** Node ids of the providers. */
  get providers(): readonly string[] {
    return this.#providers;
  }

  /** One call as an admin. */
  async ask(call: string, params: object = {}): Promise<Record<string, unknown>> {
    const client = await MemcloudClient.connect(this.#socketPath);
    try {
      return (await client.call('control.call', { call, params })) as Record<string, unknown>;
    } finally {
      client.close();
    }
  }

  /** Makes identities that are members. @returns their state directories */
  async members(role: 'client' | 'provider', count: number): Promise<string[]> {
    const base = this.#stage.makeDirectory(role);
    const directories: string[] = [];
    for (let index = 0; index < count; index += 1) {
      // A name belongs to one key.
      const name = `${role}-${(this.#memberCount += 1)}`;
      const directory = path.join(base, name);
      fs.mkdirSync(directory);
      const { nodeId } = Identity.load(directory);
      await this.ask('admin.member-put', { key: nodeId, name, roles: [role] });
      if (role === 'provider') this.#providers.push(nodeId);
      directories.push(directory);
    }
    return directories;
  }

  /** Starts providers and waits until all are up. */
  async startProviders(count: number): Promise<void> {
    const directories = await this.members('provider', count);
    for (let at = 0; at < count; at += PROVIDERS_PER_PROCESS) {
      const plan = {
        ...{ control: this.place, offeredBytes: OFFERED_BYTES },
        directories: directories.slice(at, at + PROVIDERS_PER_PROCESS),
      };
      const args = [PROVIDERS_FILE, JSON.stringify(plan)];
      const isReady = (output: string): boolean => output.startsWith('ready');
      this.#providerProcesses.push(
        await this.#stage.serve(process.execPath, args, START_TIMEOUT_MS, isReady),
      );
    }
    await waitFor(`${count} providers to be up`, START_TIMEOUT_MS, async () => {
      const { providers } = await this.ask('admin.status');
      return (providers as { up: number }).up >= count;
    });
  }

  /** Leases that the control plane counts now. */
  async leaseCount(): Promise<number> {
    return Number((await this.ask('admin.status'))['leaseCount']);
  }

  /** How late leases were that expired so far, milliseconds. */
  lateMs(): number[] {
    return this.#providerProcesses.flatMap((server) =>
      server
        .output()
        .split('\n')
        .filter((line) => line.startsWith('{') && line.endsWith('}'))
        .flatMap((line) => (JSON.parse(line) as Expired).lateMs),
    );
  }

  /** Ends all of it. */
  async stop(): Promise<void> {
    for (const server of [...this.#providerProcesses, this.control, ...this.storeServers]) {
      await server.stop();
    }
  }
}
