/** The swap areas of this machine that lie on the pool: the kernel's list and the daemon's, joined. */
import { dirname } from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import type { DirectDeviceInfo, MountInfo } from '../common/rpc-schema.ts';
import { formatSize } from '../common/units.ts';
import type { MemcloudClient } from '../sdk/client.ts';
import { table } from './output.ts';
import { LOOP_MOUNT_PREFIX, SCOPED_VOLUME_PREFIX } from './scoped-device.ts';
import { loopFile } from './system/loop-device.ts';
import { listSwaps, sameDevice, type SwapLine } from './system/swap-device.ts';

/** A swap area on the pool. */
export interface PoolSwap extends SwapLine {
  /** `direct`; `scoped`: through memnode, for one group; `pool`: through memnode, for anybody. */
  readonly path: 'direct' | 'scoped' | 'pool';
  /** `ok`, `degraded` or `lost`. */
  readonly health: string;
  /** Names of the providers; empty where memnode chooses them page by page. */
  readonly providers: readonly string[];
  /** On managed leases. */
  readonly managed: boolean;
}

/** In the words for volumes. */
function mountHealth(mount: MountInfo | undefined): string {
  if (mount?.state !== 'mounted' || mount.damagedFileCount > 0) return 'lost';
  return mount.degradedSlabs > 0 ? 'degraded' : 'ok';
}

/** The swap areas that lie on devices of the daemon. */
export async function poolSwaps(client: MemcloudClient): Promise<PoolSwap[]> {
  const direct = await client.call('direct.list', {});
  const attachments = await client.call('nbd.list', {});
  const volumes = await client.call('volume.list', {});
  const mounts = await client.call('mount.list', {});
  return listSwaps().flatMap((line): PoolSwap[] => {
    const device = direct.find((each) => sameDevice(each.device, line.device));
    if (device !== undefined) {
      const providers = device.legs.map(({ name }) => name);
      const { health, managed } = device;
      return [{ ...line, path: 'direct', health, providers, managed }];
    }
    const file = loopFile(line.device);
    if (file?.startsWith(LOOP_MOUNT_PREFIX) === true) {
      const mount = mounts.find(({ directory }) => directory === dirname(file));
      const health = mountHealth(mount);
      const managed = mount?.managed ?? false;
      return [{ ...line, path: 'scoped', health, providers: [], managed }];
    }
    const attachment = attachments.find((each) => each.device === line.device);
    if (attachment === undefined) return [];
    const volume = volumes.find(({ name }) => name === attachment.volume);
    const path = attachment.volume.startsWith(SCOPED_VOLUME_PREFIX) ? 'scoped' : 'pool';
    const managed = volume?.managed ?? false;
    return [{ ...line, path, health: volume?.health ?? 'lost', providers: [], managed }];
  });
}

/** The area on a device. @throws MemcloudError `ERR_NATIVE` when the kernel has none there */
export async function swapOf(client: MemcloudClient, device: string): Promise<PoolSwap> {
  const found = (await poolSwaps(client)).find((line) => sameDevice(line.device, device));
  if (found === undefined) {
    throw new MemcloudError('ERR_NATIVE', `${device} is not in /proc/swaps after swapon`);
  }
  return found;
}

/** Direct devices that are no swap: left over when swapoff was run by hand. */
export async function idleDevices(client: MemcloudClient): Promise<DirectDeviceInfo[]> {
  const swaps = listSwaps();
  const devices = await client.call('direct.list', {});
  return devices.filter(({ device }) => !swaps.some((line) => sameDevice(line.device, device)));
}

/** The areas as a table. */
export function renderSwaps(lines: readonly PoolSwap[]): string {
  if (lines.length === 0) return 'No swap on the pool.';
  const rows = lines.map((line) => [
    line.device,
    line.path,
    formatSize(line.sizeBytes),
    formatSize(line.usedBytes),
    String(line.priority),
    line.health,
    line.providers.join(', '),
  ]);
  return table(['DEVICE', 'PATH', 'SIZE', 'USED', 'PRIORITY', 'HEALTH', 'PROVIDERS'], rows);
}
