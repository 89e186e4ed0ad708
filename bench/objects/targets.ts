/** The stores that are compared, each as a process on a Unix socket of its own. */
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudClient } from '../../sdk/client.ts';
import { waitFor, type Stage } from '../stage.ts';
import { startNode } from '../targets/memcloud.ts';
import type { ToolName } from '../targets/target.ts';
import type { ClientKind } from './clients.ts';

/** A store that runs. */
export interface RunningStore {
  /** The processes that hold values, or lie on the way. */
  readonly pids: readonly number[];
  /** Its Unix socket. */
  readonly address: string;
  /** Of ours: where values go instead. */
  readonly peer?: string;
  /** Ends it. */
  readonly stop: () => Promise<void>;
}

/** A store that can be started. */
export interface StoreTarget {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** Commands that must be there. */
  readonly tools: readonly ToolName[];
  readonly client: ClientKind;
  readonly start: (stage: Stage) => Promise<RunningStore>;
}

const OFFER_BYTES = 1024 * 2 ** 20;
const START_TIMEOUT_MS = 30_000;
const JOIN_TIMEOUT_MS = 15_000;
const DONOR_NAME = 'bench-donor';

async function startOurs(stage: Stage, isRemote: boolean): Promise<RunningStore> {
  const directory = stage.makeDirectory('objects');
  if (!isRemote) {
    const { server, socketPath } = await startNode(stage, directory, 'bench', OFFER_BYTES, []);
    return { pids: [server.pid], address: socketPath, stop: server.stop };
  }
  const donor = await startNode(stage, directory, DONOR_NAME, OFFER_BYTES, []);
  const own = await startNode(stage, directory, 'bench-client', 0, [donor.peerAddress]);
  const client = await MemcloudClient.connect(own.socketPath);
  try {
    await waitFor('the donor to be up', JOIN_TIMEOUT_MS, async () => {
      const peers = await client.call('peer.list', {});
      return peers.some(({ name, state }) => name === DONOR_NAME && state === 'up');
    });
  } finally {
    client.close();
  }
  return {
    pids: [donor.server.pid, own.server.pid],
    address: own.socketPath,
    peer: DONOR_NAME,
    stop: async () => {
      await own.server.stop();
      await donor.server.stop();
    },
  };
}

async function startTheirs(
  stage: Stage,
  command: string,
  args: (directory: string, socketPath: string) => string[],
): Promise<RunningStore> {
  const directory = stage.makeDirectory(command);
  const address = path.join(directory, 'socket');
  const server = await stage.serve(command, args(directory, address), START_TIMEOUT_MS, () =>
    fs.existsSync(address),
  );
  return { pids: [server.pid], address, stop: server.stop };
}

/** Ours, on this machine. */
export const memcloudObjects: StoreTarget = {
  name: 'memcloud',
  description: 'memnode, its own RAM, the TypeScript SDK',
  tools: [],
  client: 'memcloud',
  start: (stage) => startOurs(stage, false),
};

/** Ours, on another one. */
export const memcloudRemoteObjects: StoreTarget = {
  name: 'memcloud-remote',
  description: 'memnode -> encrypted session over TCP loopback -> memnode, the TypeScript SDK',
  tools: [],
  client: 'memcloud',
  start: (stage) => startOurs(stage, true),
};

/** Without persistence. */
export const redis: StoreTarget = {
  name: 'redis',
  description: 'redis-server without persistence, ioredis',
  tools: ['redis-server'],
  client: 'redis',
  start: (stage) =>
    startTheirs(stage, 'redis-server', (directory, socketPath) => [
      ...['--port', '0', '--unixsocket', socketPath, '--dir', directory],
      ...['--save', '', '--appendonly', 'no'],
    ]),
};

/** As it comes. */
export const memcached: StoreTarget = {
  name: 'memcached',
  description: 'memcached, memjs',
  tools: ['memcached'],
  client: 'memcached',
  start: (stage) =>
    startTheirs(stage, 'memcached', (_directory, socketPath) => [
      ...['-s', socketPath, '-m', '1024'],
      // It refuses to run as root unless it is told to.
      ...(process.getuid?.() === 0 ? ['-u', 'root'] : []),
    ]),
};
