/**
 * The device under scoped swap: a volume through nbd, or, on a kernel without it, a loop device over
 * one file on a mount of the pool. Either way memnode serves it (a process of its own for a mount), so
 * it is for programs of one control group only, which the reserve guard keeps from taking all memory.
 */
import fs from 'node:fs';
import path from 'node:path';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { MemcloudClient } from '../sdk/client.ts';
import { MANAGED_CALL_TIMEOUT_MS, type ManagedSettings } from './managed-options.ts';
import { note } from './output.ts';
import { requireSaidAloud } from './swap-settings.ts';
import type { Cleanup } from './system/cleanup.ts';
import { kernelModule } from './system/kernel-modules.ts';
import { attachLoop, detachLoop, loadLoopModules } from './system/loop-device.ts';
import { swapOff, swapOn } from './system/swap-device.ts';

/** Longest wait for a device of the kernel. */
export const ATTACH_TIMEOUT_MS = 120_000;
/** Names of the volumes of scoped swap begin so. */
export const SCOPED_VOLUME_PREFIX = 'run-';
/** Mounts under loop devices lie beside each other, where no other program looks. */
export const LOOP_MOUNT_PREFIX = '/run/memcloud-';
/** The one file there. */
const LOOP_FILE_NAME = 'swap';
/** Room of such a mount beyond its file. */
const LOOP_SLACK_BYTES = 2 ** 20;
/** How pages of scoped swap come to memnode. */
export const SCOPED_WAYS = ['auto', 'nbd', 'loop'] as const;

/** Swap for the programs of one group. */
export interface ScopedSwap {
  /** `nbd`: a network block device; `loop`: a file on a mount of the pool; `auto`: by what the kernel has. */
  readonly way: (typeof SCOPED_WAYS)[number];
  /** RAM of the group, bytes. */
  readonly memoryBytes: number;
  /** Bytes in the pool. */
  readonly swapBytes: number;
  /** Memory of the machine that stays free, bytes. */
  readonly reserveBytes: number;
  /** Providers that keep each page; undefined leaves it to the daemon. */
  readonly copies: number | undefined;
  /** Only these providers; empty: any. */
  readonly providers: readonly string[];
  /** On managed leases. */
  readonly managed?: ManagedSettings | undefined;
  /** Of the swap area. */
  readonly priority: number;
  /** Whether freed pages give their RAM back. */
  readonly discard: boolean;
}

/** What a device has given back and still keeps. */
export interface Kept {
  /** Pages that the kernel gave back since the device was made. */
  readonly trimmedPages: number;
  /** Bytes that lie in the pool. */
  readonly storedBytes: number;
}

/** A device to swap onto. */
export interface ScopedDevice {
  /** Its path. */
  readonly device: string;
  /** Asks memnode. */
  readonly kept: () => Promise<Kept>;
}

/**
 * Makes a volume to swap onto.
 *
 * @throws MemcloudError of the daemon; `ERR_VOLUME_CAPACITY` when it has one copy and nobody asked for
 *   that: the volume is removed then
 */
export async function createSwapVolume(
  client: MemcloudClient,
  volume: { name: string; sizeBytes: number },
  { copies, providers, managed }: Pick<ScopedSwap, 'copies' | 'providers' | 'managed'>,
): Promise<void> {
  const { name } = volume;
  const request = {
    ...volume,
    ...(copies === undefined ? {} : { copies }),
    ...(providers.length === 0 ? {} : { providers: [...providers] }),
    ...(managed === undefined ? {} : { managed }),
  };
  const made = await client.call('volume.create', request, { timeoutMs: MANAGED_CALL_TIMEOUT_MS });
  try {
    requireSaidAloud(copies, made.copies);
  } catch (error) {
    await client.call('volume.remove', { name, force: true });
    throw error;
  }
}

/** A volume as a network block device. */
async function attachNbd(
  client: MemcloudClient,
  name: string,
  swap: ScopedSwap,
  cleanup: Cleanup,
): Promise<ScopedDevice> {
  await createSwapVolume(client, { name, sizeBytes: swap.swapBytes }, swap);
  cleanup.add('remove the volume', () => client.call('volume.remove', { name, force: true }));
  const timeoutMs = ATTACH_TIMEOUT_MS;
  const { device } = await client.call('nbd.attach', { name }, { timeoutMs });
  cleanup.add(`detach ${device}`, () => client.call('nbd.detach', { device }, { timeoutMs }));
  const kept = async (): Promise<Kept> => {
    const { counters, storedBytes } = await client.call('volume.inspect', { name });
    return { trimmedPages: counters['trimmedPages'] ?? 0, storedBytes };
  };
  return { device, kept };
}

/** A file on a mount of the pool as a loop device. */
async function attachLoopFile(
  client: MemcloudClient,
  name: string,
  swap: ScopedSwap,
  cleanup: Cleanup,
): Promise<ScopedDevice> {
  const { swapBytes, copies, providers, managed } = swap;
  const directory = `${LOOP_MOUNT_PREFIX}${name}`;
  await loadLoopModules();
  fs.mkdirSync(directory, { mode: 0o700 });
  cleanup.add(`remove ${directory}`, () => fs.rmdirSync(directory));
  const timeoutMs = ATTACH_TIMEOUT_MS;
  const made = await client.call(
    'mount.create',
    {
      directory,
      volume: name,
      sizeBytes: swapBytes + LOOP_SLACK_BYTES,
      ...(copies === undefined ? {} : { copies }),
      ...(providers.length === 0 ? {} : { providers: [...providers] }),
      ...(managed === undefined ? {} : { managed }),
    },
    { timeoutMs },
  );
  cleanup.add(`unmount ${directory}`, () =>
    client.call('mount.remove', { directory, lazy: true }, { timeoutMs }),
  );
  requireSaidAloud(copies, made.copies);
  const file = path.join(directory, LOOP_FILE_NAME);
  fs.writeFileSync(file, '', { mode: 0o600, flag: 'wx' });
  fs.truncateSync(file, swapBytes);
  const device = await attachLoop(file);
  cleanup.add(`detach ${device}`, () => detachLoop(device));
  let mostBytes = 0;
  const kept = async (): Promise<Kept> => {
    const mounts = await client.call('mount.list', {});
    const storedBytes = mounts.find((mount) => mount.directory === directory)?.usedBytes ?? 0;
    mostBytes = Math.max(mostBytes, storedBytes);
    return { trimmedPages: (mostBytes - storedBytes) / PAGE_SIZE_BYTES, storedBytes };
  };
  return { device, kept };
}

/** The way of a scope on this kernel. */
function wayOf({ way }: ScopedSwap): 'nbd' | 'loop' {
  if (way !== 'auto') return way;
  if (kernelModule('nbd') !== 'absent') return 'nbd';
  note('memcloud: this kernel has no nbd: a loop device over a file on the pool takes its place');
  return 'loop';
}

/** Makes a device and swaps onto it. */
export async function startScopedSwap(
  client: MemcloudClient,
  swap: ScopedSwap,
  cleanup: Cleanup,
): Promise<ScopedDevice> {
  const name = `${SCOPED_VOLUME_PREFIX}${process.pid}`;
  const { priority, discard } = swap;
  const attach = wayOf(swap) === 'loop' ? attachLoopFile : attachNbd;
  const made = await attach(client, name, swap, cleanup);
  const { device } = made;
  await swapOn(device, priority, discard);
  cleanup.add(`swap off ${device}`, () => swapOff(device));
  return made;
}
