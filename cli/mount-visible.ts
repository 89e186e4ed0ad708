/**
 * A memnode whose unit gives it mounts of its own (PrivateMounts, ProtectSystem) would mount where nobody else
 * sees it. Such a mount is of no use to whoever asked for it.
 */
import { MemcloudError } from '../common/errors.ts';
import { mountAt, readMountTable } from '../common/mount-table.ts';
import type { MemcloudClient } from '../sdk/client.ts';

/**
 * Takes a new mount back that this process does not see.
 *
 * @throws MemcloudError `ERR_MOUNT_FAILED`
 */
export async function requireVisible(
  client: Pick<MemcloudClient, 'call'>,
  directory: string,
): Promise<void> {
  if (mountAt(readMountTable(), directory) !== undefined) return;
  await client.call('mount.remove', { directory, lazy: true });
  throw new MemcloudError(
    'ERR_MOUNT_FAILED',
    `mount ${directory}: only memnode would see it, its unit keeps its mounts apart from the machine’s; ` +
      'memcloud service install --mount DIR mends that',
  );
}
