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
import { HERE, commandAt, type Place } from './place.ts';
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
/** Share of pages that may be rewritten while they are in the ring, where none should be. */
const COALESCED_SHARE_MAX = 0.001;

/** Both processes on this machine, as it is. */
export const BOTH_HERE = { consumer: HERE, provider: HERE } as const;

/** A volume and how it is to be made. */
export interface VolumePlan {
  readonly name: string;
  readonly sizeBytes: number;
  /** Names of the nodes that may hold it. */
  readonly providers: readonly string[];
  /** Although the pool is smaller. */
  readonly thin?: boolean;
}

/** A volume that is served. */
export interface RunningVolume {
  readonly uri: string;
  readonly inspect: () => Promise<VolumeDetails>;
}

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

/** Starts a node of its own and waits until it is ready; `nodeOptions` are options of Node itself. */
export async function startNode(
  stage: Stage,
  directory: string,
  name: string,
  offerBytes: number,
  connect: readonly string[],
  place: Place = HERE,
  nodeOptions: readonly string[] = [],
): Promise<RunningNode> {
  const socketPath = path.join(directory, `${name}.sock`);
  const args = [
    ...nodeOptions,
    ...[
      MEMNODE_FILE,
      '--json',
      '--no-mdns',
      '--no-peer-exchange',
      '--auto-trust',
      '--log-level',
      'warn',
    ],
    ...['--name', name, '--state', path.join(directory, name), '--socket', socketPath],
    ...['--listen', `${place.address}:0`, '--offer', String(offerBytes)],
    // Each process plays a machine; by the kernel they would be one.
    ...['--host', name],
    ...connect.flatMap((address) => ['--connect', address]),
  ];
  const isReady = (output: string): boolean => output.includes('\n');
  const started = commandAt(place, process.execPath, args);
  const server = await stage.serve(started.command, started.args, START_TIMEOUT_MS, isReady);
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

/** Refuses a measurement of a link in which pages were rewritten before they had crossed it. */
export function refuseCoalescing(counters: Readonly<Record<string, number>>): void {
  const { coalescedPages = NaN, pagesWritten = NaN } = counters;
  if (coalescedPages <= pagesWritten * COALESCED_SHARE_MAX) return;
  throw new Error(
    `volume: expected that each written page crosses the link; of ${pagesWritten}, ${coalescedPages}` +
      ' were rewritten on their way',
  );
}

/** Asks a node by the command line; its answer is JSON. */
export async function askNode(
  stage: Stage,
  node: RunningNode,
  ...args: readonly string[]
): Promise<unknown> {
  const all = [MEMCLOUD_FILE, '--socket', node.socketPath, '--json', ...args];
  return JSON.parse(await stage.run(process.execPath, all, COMMAND_TIMEOUT_MS)) as unknown;
}

/** The check of a target: that its volume sent what was written. @returns a function that gives the counters */
function elisionCheck({ inspect }: RunningVolume): NonNullable<RunningTarget['verify']> {
  return async () => {
    const { counters } = await inspect();
    refuseElision(counters);
    return counters;
  };
}

/** Waits until `node` has a session with every node of `names`. */
export async function waitForPeers(
  stage: Stage,
  node: RunningNode,
  names: readonly string[],
): Promise<void> {
  await waitFor(`${names.join(', ')} to be up`, JOIN_TIMEOUT_MS, async () => {
    const known = (await askNode(stage, node, 'peer', 'ls')) as PeerInfo[];
    return names.every((wanted) =>
      known.some(({ name, state }) => name === wanted && state === 'up'),
    );
  });
}

/** Makes a volume of one copy and serves it on a Unix socket in `directory`. */
export async function serveVolume(
  stage: Stage,
  node: RunningNode,
  directory: string,
  plan: VolumePlan,
): Promise<RunningVolume> {
  const { name, sizeBytes, providers, thin = false } = plan;
  await askNode(
    stage,
    node,
    ...['volume', 'create', name, '--size', String(sizeBytes), '--copies', '1'],
    ...providers.flatMap((provider) => ['--provider', provider]),
    ...(thin ? ['--overcommit'] : []),
  );
  const socketPath = path.join(directory, `${name}.nbd`);
  const served = await askNode(stage, node, 'nbd', 'serve', name, '--unix', socketPath);
  return {
    uri: (served as { uri: string }).uri,
    inspect: async () => (await askNode(stage, node, 'volume', 'inspect', name)) as VolumeDetails,
  };
}

/** Bytes that a node must offer for volumes that hold `bytes` of pages in all. */
export function offerFor(bytes: number): number {
  return (bytes / PAGE_SIZE_BYTES) * SEALED_PAGE_SIZE_BYTES + OFFER_SLACK_BYTES;
}

/**
 * Starts both processes and serves a volume. What it starts belongs to `stage`.
 *
 * @param places - where they run; both here unless it says otherwise
 * @param nodeOptions - options of Node itself for a side, such as those of its profiler
 */
export async function startMemcloud(
  stage: Stage,
  sizeBytes: number,
  places: { readonly consumer: Place; readonly provider: Place } = BOTH_HERE,
  nodeOptions: (side: 'consumer' | 'provider') => readonly string[] = () => [],
): Promise<RunningMemcloud> {
  const directory = stage.makeDirectory('memcloud');
  const offerBytes = offerFor(sizeBytes);
  const lent = [PROVIDER_NAME, offerBytes, []] as const;
  const provider = await startNode(
    stage,
    directory,
    ...lent,
    places.provider,
    nodeOptions('provider'),
  );
  const borrowed = ['bench-consumer', 0, [provider.peerAddress]] as const;
  const consumer = await startNode(
    stage,
    directory,
    ...borrowed,
    places.consumer,
    nodeOptions('consumer'),
  );
  await waitForPeers(stage, consumer, [PROVIDER_NAME]);
  const plan = { name: VOLUME_NAME, sizeBytes, providers: [PROVIDER_NAME] };
  const volume = await serveVolume(stage, consumer, directory, plan);
  return {
    uri: volume.uri,
    pids: [consumer.server.pid, provider.server.pid],
    consumerPid: consumer.server.pid,
    providerPid: provider.server.pid,
    inspect: volume.inspect,
    status: async (side) =>
      (await askNode(stage, side === 'consumer' ? consumer : provider, 'status')) as StatusInfo,
    verify: elisionCheck(volume),
    stop: async () => {
      await consumer.server.stop();
      await provider.server.stop();
    },
  };
}

/** Starts one node that lends to itself, and serves a volume on its own memory. */
async function startLocal(stage: Stage, sizeBytes: number): Promise<RunningTarget> {
  const directory = stage.makeDirectory('memcloud-local');
  const node = await startNode(stage, directory, 'bench-local', offerFor(sizeBytes), []);
  const plan = { name: VOLUME_NAME, sizeBytes, providers: ['local'] };
  const volume = await serveVolume(stage, node, directory, plan);
  return {
    uri: volume.uri,
    pids: [node.server.pid],
    verify: elisionCheck(volume),
    stop: () => node.server.stop(),
  };
}

/** The provider in the same process: no session, one hop. */
export const memcloudLocal: Target = {
  name: 'memcloud-local',
  description: 'one memnode, its own memory as provider, Unix socket, one hop',
  tools: [],
  ours: true,
  start: startLocal,
};

/** See the top of the file. */
export const memcloud: Target = {
  name: 'memcloud',
  description: 'memnode -> encrypted session over TCP loopback -> memnode, two hops',
  tools: [],
  ours: true,
  start: (stage, sizeBytes) => startMemcloud(stage, sizeBytes),
};
