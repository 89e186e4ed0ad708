/**
 * What we build, as a user runs it: a `memnode` that lends, a `memnode` that borrows, joined over
 * loopback TCP, and a volume of the second served on a Unix socket. Both are processes of their own;
 * everything goes through the command line.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PeerInfo, StatusInfo, VolumeDetails } from '../../common/rpc-schema.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../../common/units.ts';
import { waitFor, type Server, type Stage } from '../stage.ts';
import type { RunningTarget, Target } from './target.ts';

const MEMNODE_FILE = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));
const MEMCLOUD_FILE = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

const START_TIMEOUT_MS = 30_000;
const JOIN_TIMEOUT_MS = 15_000;
const COMMAND_TIMEOUT_MS = 60_000;
const PROVIDER_NAME = 'bench-provider';
const VOLUME_NAME = 'bench';
/** Room beyond the sealed pages: the records of leases, and slabs that are not full. */
const OFFER_SLACK_BYTES = 64 * 2 ** 20;
/** Share of random pages that may be elided: none is expected, more means other data was written. */
const ELIDED_SHARE_MAX = 0.001;

/** Our two processes, and what they tell of themselves. */
export interface RunningMemcloud extends RunningTarget {
  readonly consumerPid: number;
  readonly providerPid: number;
  readonly inspect: () => Promise<VolumeDetails>;
  readonly status: (side: 'consumer' | 'provider') => Promise<StatusInfo>;
  readonly verify: () => Promise<Readonly<Record<string, number>>>;
}

/** A memnode that runs. */
export interface RunningNode {
  readonly server: Server;
  readonly socketPath: string;
  /** `HOST:PORT` for peers. */
  readonly peerAddress: string;
}

/** Starts a node of its own and waits until it is ready. */
export async function startNode(
  stage: Stage,
  directory: string,
  name: string,
  offerBytes: number,
  connect: readonly string[],
): Promise<RunningNode> {
  const socketPath = path.join(directory, `${name}.sock`);
  const args = [
    ...[MEMNODE_FILE, '--json', '--no-mdns', '--auto-trust', '--log-level', 'warn'],
    ...['--name', name, '--state', path.join(directory, name), '--socket', socketPath],
    ...['--listen', '127.0.0.1:0', '--offer', String(offerBytes)],
    // Each process plays a machine; by the kernel they would be one.
    ...['--host', name],
    ...connect.flatMap((address) => ['--connect', address]),
  ];
  const isReady = (output: string): boolean => output.includes('\n');
  const server = await stage.serve(process.execPath, args, START_TIMEOUT_MS, isReady);
  const ready = JSON.parse(server.output().split('\n')[0] ?? '') as { peerAddress: string };
  return { server, socketPath, peerAddress: ready.peerAddress };
}

/** Refuses a measurement in which pages were not sent because they were zero or same-filled. */
export function refuseElision(counters: Readonly<Record<string, number>>): void {
  const { zeroPages = NaN, filledPages = NaN, pagesWritten = NaN, pagesSent = NaN } = counters;
  if (!(pagesSent > 0 && zeroPages + filledPages <= pagesWritten * ELIDED_SHARE_MAX)) {
    throw new Error(
      `volume: expected that written pages travel; of ${pagesWritten}, ${zeroPages} were zero,` +
        ` ${filledPages} same-filled, and ${pagesSent} were sent`,
    );
  }
}

/** Starts both processes and serves a volume. What it starts belongs to `stage`. */
export async function startMemcloud(stage: Stage, sizeBytes: number): Promise<RunningMemcloud> {
  const directory = stage.makeDirectory('memcloud');
  const sealedBytes = (sizeBytes / PAGE_SIZE_BYTES) * SEALED_PAGE_SIZE_BYTES;
  const offerBytes = sealedBytes + OFFER_SLACK_BYTES;
  const provider = await startNode(stage, directory, PROVIDER_NAME, offerBytes, []);
  const peers = [provider.peerAddress];
  const consumer = await startNode(stage, directory, 'bench-consumer', 0, peers);
  const ask = async (socketPath: string, ...args: string[]): Promise<unknown> => {
    const all = [MEMCLOUD_FILE, '--socket', socketPath, '--json', ...args];
    const output = await stage.run(process.execPath, all, COMMAND_TIMEOUT_MS);
    return JSON.parse(output) as unknown;
  };
  const memcloud = (...args: string[]): Promise<unknown> => ask(consumer.socketPath, ...args);
  await waitFor('the provider to be up', JOIN_TIMEOUT_MS, async () => {
    const known = (await memcloud('peer', 'ls')) as PeerInfo[];
    return known.some(({ name, state }) => name === PROVIDER_NAME && state === 'up');
  });
  const create = ['--size', String(sizeBytes), '--copies', '1', '--provider', PROVIDER_NAME];
  await memcloud('volume', 'create', VOLUME_NAME, ...create);
  const nbdPath = path.join(directory, 'nbd.sock');
  const served = await memcloud('nbd', 'serve', VOLUME_NAME, '--unix', nbdPath);
  const inspect = async (): Promise<VolumeDetails> =>
    (await memcloud('volume', 'inspect', VOLUME_NAME)) as VolumeDetails;
  return {
    uri: (served as { uri: string }).uri,
    pids: [consumer.server.pid, provider.server.pid],
    consumerPid: consumer.server.pid,
    providerPid: provider.server.pid,
    inspect,
    status: async (side) =>
      (await ask((side === 'consumer' ? consumer : provider).socketPath, 'status')) as StatusInfo,
    verify: async () => {
      const { counters } = await inspect();
      refuseElision(counters);
      return counters;
    },
    stop: async () => {
      await consumer.server.stop();
      await provider.server.stop();
    },
  };
}

/** See the top of the file. */
export const memcloud: Target = {
  name: 'memcloud',
  description: 'memnode -> encrypted session over TCP loopback -> memnode, two hops',
  tools: [],
  ours: true,
  start: startMemcloud,
};
