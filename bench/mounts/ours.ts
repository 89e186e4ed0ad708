/**
 * Our mount, as a user makes it: a `memnode`, `memcloud mount`, and the process that serves the files.
 * With the provider in that same process it is compared with file systems in memory; with a provider that is
 * another `memnode` behind a sealed session, with sshfs.
 */
import { fileURLToPath } from 'node:url';
import { waitFor, type Stage } from '../stage.ts';
import { startNode, type RunningNode } from '../targets/memcloud.ts';
import { reasonOf } from '../trials.ts';
import { fuseNative, served } from './peers.ts';
import type { MountTarget, RunningMount } from './mount-target.ts';

const MEMCLOUD_FILE = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const COMMAND_TIMEOUT_MS = 60_000;
const JOIN_TIMEOUT_MS = 15_000;
const ROOM_TIMEOUT_MS = 5_000;
const PROVIDER_NAME = 'bench-provider';
const MOUNT_SIZE_BYTES = 4 * 2 ** 30;
/** Sealed pages are longer than pages, and leases have records. */
const OFFER_BYTES = MOUNT_SIZE_BYTES * 1.125;

interface ListedMount {
  readonly directory: string;
  readonly pid: number;
  readonly metadataBytes: number;
  readonly inodeCount: number;
}

/** Our mount, and what it tells of itself. */
export interface OurMount extends RunningMount {
  /** What `memcloud mount ls` says of it. */
  readonly status: () => Promise<ListedMount>;
}

/** A memnode looks at its machine's memory a second after its start at the latest. */
async function mountOnceRoomIsKnown(mount: () => Promise<unknown>): Promise<void> {
  await waitFor('memnode to know its room', ROOM_TIMEOUT_MS, async () => {
    try {
      await mount();
      return true;
    } catch (thrown) {
      if (reasonOf(thrown).includes('ERR_VOLUME_CAPACITY')) return false;
      throw thrown;
    }
  });
}

async function startOurs(
  stage: Stage,
  name: string,
  flags: readonly string[],
  isRemote: boolean,
): Promise<OurMount> {
  const own = stage.makeDirectory(name);
  const nodes: RunningNode[] = [];
  if (isRemote) nodes.push(await startNode(stage, own, PROVIDER_NAME, OFFER_BYTES, []));
  const peers = nodes.map(({ peerAddress }) => peerAddress);
  const consumer = await startNode(stage, own, name, isRemote ? 0 : OFFER_BYTES, peers);
  const memcloud = async (...args: string[]): Promise<unknown> => {
    const all = [MEMCLOUD_FILE, '--socket', consumer.socketPath, '--json', ...args];
    return JSON.parse(await stage.run(process.execPath, all, COMMAND_TIMEOUT_MS)) as unknown;
  };
  if (isRemote) {
    await waitFor('the provider to be up', JOIN_TIMEOUT_MS, async () => {
      const known = (await memcloud('peer', 'ls')) as { name: string; state: string }[];
      return known.some((peer) => peer.name === PROVIDER_NAME && peer.state === 'up');
    });
  }
  const directory = stage.makeMountPoint(`${name}-files`);
  const provider = isRemote ? PROVIDER_NAME : 'local';
  const size = ['--size', String(MOUNT_SIZE_BYTES), '--copies', '1', '--provider', provider];
  await mountOnceRoomIsKnown(() => memcloud('mount', directory, ...size, ...flags));
  const status = async (): Promise<ListedMount> => {
    const mounts = (await memcloud('mount', 'ls')) as ListedMount[];
    const found = mounts.find((mount) => mount.directory === directory);
    if (found === undefined) throw new Error(`mount ls: expected ${directory}, did not find it`);
    return found;
  };
  const { pid } = await status();
  const servers = [consumer, ...nodes].map(({ server }) => server);
  const base = served(directory, servers);
  return {
    directory,
    pids: [pid, ...servers.map((server) => server.pid)],
    status,
    stop: async () => {
      await memcloud('umount', directory, '--lazy');
      await base.stop();
    },
  };
}

/** Mounts ours with the provider in its own process. */
export function startLocal(stage: Stage, profile: 'default' | 'build-cache'): Promise<OurMount> {
  return startOurs(stage, `memcloud-${profile}`, ['--profile', profile], false);
}

/** The kernel's protocol, writeback cache, provider in the same process. */
export const memcloudLocal: MountTarget = {
  name: 'memcloud',
  description: 'memcloud mount, provider in the same process',
  tools: [],
  ours: true,
  start: (stage) => startLocal(stage, 'default'),
};

/** Tuned for many small files. */
export const memcloudBuildCache: MountTarget = {
  name: 'memcloud-build-cache',
  description: 'memcloud mount --profile build-cache, provider in the same process',
  tools: [],
  ours: true,
  start: (stage) => startLocal(stage, 'build-cache'),
};

/** The same file system through fuse-native. */
export const memcloudNative: MountTarget = {
  name: 'memcloud-native',
  description: 'memcloud mount --fuse-transport native, provider in the same process',
  tools: [],
  ours: true,
  obstacle: fuseNative.obstacle ?? (() => undefined),
  start: (stage) => startOurs(stage, 'memcloud-native', ['--fuse-transport', 'native'], false),
};

/** Pages sealed, on another process. */
export const memcloudRemote: MountTarget = {
  name: 'memcloud-remote',
  description: 'memcloud mount, sealed pages on another memnode over loopback TCP',
  tools: [],
  ours: true,
  start: (stage) => startOurs(stage, 'memcloud-remote', [], true),
};
