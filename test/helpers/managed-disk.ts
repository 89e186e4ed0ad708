/** A disk on managed leases. */
import path from 'node:path';
import type { Test } from 'tap';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { MIB, type ManagedLab } from './managed-lab.ts';

/** A volume on managed leases, and an NBD connection to it. */
export async function managedDisk(
  t: Test,
  lab: ManagedLab,
  { copies, ttlMs }: { copies: number; ttlMs: number },
): Promise<NbdClient> {
  const unixPath = path.join(lab.folder, 'disk.sock');
  await lab.node('client').use(async (rpc) => {
    const managed = { ttlMs };
    await rpc.call('volume.create', { name: 'disk', sizeBytes: 32 * MIB, copies, managed });
    await rpc.call('nbd.serve', { name: 'disk', unixPath });
  });
  const nbd = await NbdClient.connect({ path: unixPath }, { exportName: 'disk' });
  t.teardown(() => nbd.close().catch(() => undefined));
  return nbd;
}
