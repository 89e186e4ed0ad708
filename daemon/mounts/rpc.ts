/** What `mount.*` do: a request of people, completed by defaults, and the pool's answer to it. */
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import type { MountInfo, RpcParams } from '../../common/rpc-schema.ts';
import { roundUpToPages } from '../../common/units.ts';
import { capacityProblem, type FreeRoom } from '../capacity.ts';
import { defaultCopies, ringSize } from '../volume-defaults.ts';
import { refuseUnmanaged } from '../managed/rpc.ts';
import type { ManagedNode } from '../managed/node.ts';
import type { Mounts } from './mounts.ts';
import { largestVolumeBytes } from './pool-room.ts';
import type { MountRequest } from './protocol.ts';

/** What the methods work on. */
export interface MountContext {
  /** The mounts. */
  readonly mounts: Mounts;
  /** Room of the providers that are up, of all or of the named ones. @throws `ERR_PEER_UNKNOWN` */
  readonly rooms: (providers: readonly string[] | undefined) => FreeRoom[];
  /** True when a volume has that name. */
  readonly isVolume: (name: string) => boolean;
  /** What mounts on managed leases are made of; undefined without a control plane. */
  readonly managed: Pick<ManagedNode, 'openMount'> | undefined;
}

/** Below, a file system is of no use to anybody. */
const SIZE_MIN_BYTES = 1024 * 1024;
/** As tmpfs: everybody may make files, nobody may remove another's. */
const MODE_SHARED = 0o1777;
const MODE_OWN = 0o755;
const NAME_LENGTH_MAX = 60;
const NAME_COUNT_MAX = 1000;

/** A name for the volume that nobody has: that of the directory, else with a number behind it. */
export function defaultVolumeName(directory: string, isTaken: (name: string) => boolean): string {
  const base = path.basename(directory).replace(/[^A-Za-z0-9._-]/g, '-');
  const stem = (/^[A-Za-z0-9]/.test(base) ? base : `mount${base}`).slice(0, NAME_LENGTH_MAX - 4);
  for (let count = 1; count < NAME_COUNT_MAX; count += 1) {
    const name = count === 1 ? stem : `${stem}-${count}`;
    if (!isTaken(name)) return name;
  }
  throw new MemcloudError('ERR_USAGE', `no name is free for ${directory}: say one with --volume`);
}

/**
 * Completes a request.
 *
 * @throws MemcloudError `ERR_VOLUME_CAPACITY` with the numbers, `ERR_PEER_UNKNOWN`, `ERR_USAGE`
 */
export function mountRequest(
  params: RpcParams<'mount.create'>,
  { mounts, rooms: roomsOf, isVolume }: MountContext,
): MountRequest {
  const { directory, providers, overcommit = false, ringBytes } = params;
  const rooms = roomsOf(providers);
  const hosts = new Set(rooms.map(({ host }) => host)).size;
  const copies = params.copies ?? defaultCopies(hosts);
  const sizeBytes =
    params.sizeBytes === undefined
      ? largestVolumeBytes(rooms, copies)
      : roundUpToPages(params.sizeBytes);
  const isManaged = params.managed !== undefined;
  const problem = isManaged ? undefined : capacityProblem({ sizeBytes, copies, overcommit }, rooms);
  const tooSmall = `expected at least 1 MiB, got ${sizeBytes} bytes`;
  if (params.sizeBytes !== undefined && sizeBytes < SIZE_MIN_BYTES) {
    throw new MemcloudError('ERR_USAGE_SIZE', `mount ${directory}: ${tooSmall}`);
  }
  if (problem !== undefined || sizeBytes < SIZE_MIN_BYTES) {
    const why = problem ?? 'the providers that are up have no room left';
    const hint = hosts === 0 ? '; --provider local takes RAM of this machine' : '';
    throw new MemcloudError('ERR_VOLUME_CAPACITY', `mount ${directory}: ${why}${hint}`);
  }
  const ringSizeBytes = ringSize(ringBytes, `mount ${directory}`);
  const isRoot = process.geteuid?.() === 0;
  return {
    directory,
    volumeName:
      params.volume ?? defaultVolumeName(directory, (name) => isVolume(name) || mounts.has(name)),
    ...{ sizeBytes, copies, ringSizeBytes, providers, overcommit },
    keep: params.keep ?? false,
    allowOther: params.allowOther ?? isRoot,
    profile: params.profile ?? 'default',
    transport: params.transport ?? 'kernel',
    uid: params.uid ?? process.geteuid?.() ?? 0,
    gid: params.gid ?? process.getegid?.() ?? 0,
    mode: params.mode ?? (isRoot ? MODE_SHARED : MODE_OWN),
  };
}

/** What says something about files to be, not about where they are shown. */
const OF_NEW_FILES = [
  'sizeBytes',
  'copies',
  'providers',
  'ringBytes',
  'managed',
  'uid',
  'gid',
  'mode',
] as const;

/** `mount.create`: new files, or those that were kept under a name. */
export async function createMount(
  params: RpcParams<'mount.create'>,
  context: MountContext,
  signal?: AbortSignal,
): Promise<MountInfo> {
  const { mounts } = context;
  const { directory, volume, managed, makeDirectory = false } = params;
  if (volume !== undefined && mounts.isKept(volume)) {
    const given = OF_NEW_FILES.find((key) => params[key] !== undefined);
    if (given !== undefined) {
      const text = `files are kept as ${volume}, and ${given} cannot be changed; choose another name`;
      throw new MemcloudError('ERR_USAGE', text);
    }
    return mounts.remount(volume, directory, makeDirectory);
  }
  if (managed !== undefined) return createManagedMount(params, managed, context, signal);
  const request = mountRequest(params, context);
  return mounts.create(request, makeDirectory);
}

/** A mount on managed leases: all that it may hold is leased before it is made. */
async function createManagedMount(
  params: RpcParams<'mount.create'>,
  managed: NonNullable<RpcParams<'mount.create'>['managed']>,
  context: MountContext,
  signal: AbortSignal | undefined,
): Promise<MountInfo> {
  const { directory, sizeBytes, copies, providers, makeDirectory = false } = params;
  if (sizeBytes === undefined || params.overcommit === true) {
    const text = `mount ${directory}: managed memory is leased whole: say how much with --size, without --overcommit`;
    throw new MemcloudError('ERR_USAGE', text);
  }
  const node = context.managed ?? refuseUnmanaged();
  const request = mountRequest(
    { ...params, copies: copies ?? 1, providers: undefined },
    { ...context, rooms: () => [] },
  );
  const wish = { purpose: `mount ${directory}`, sizeBytes: request.sizeBytes, copies, providers };
  const leases = await node.openMount({ ...wish, ...managed }, signal);
  return context.mounts.create(
    { ...request, copies: leases.copies, managed: true },
    makeDirectory,
    leases,
  );
}
