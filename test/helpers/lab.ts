/** A pool of real processes with a disk on it, and whether the disk still holds what was written. */
import path from 'node:path';
import type { Test } from 'tap';
import type { VolumeDetails } from '../../common/rpc-schema.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { LabNode, labFolder } from './lab-node.ts';

const MIB = 2 ** 20;
/** Bytes of one read or write here. */
export const CHUNK = 256 * 1024;

/** Nodes that know each other. */
export interface Lab {
  folder: string;
  providers: LabNode[];
  consumer: LabNode;
}

/** Starts providers `alpha`, `beta`, ... and a consumer of them. */
export async function lab(t: Test, providerCount: number, leaseTtlS?: number): Promise<Lab> {
  const folder = labFolder(t);
  const names = ['alpha', 'beta', 'gamma'].slice(0, providerCount);
  const providers = await Promise.all(
    names.map((name) => LabNode.start(t, { name, folder, offer: '256M' })),
  );
  const connect = providers.map(({ peerAddress }) => peerAddress);
  const ttl = leaseTtlS === undefined ? {} : { leaseTtlS };
  const consumer = await LabNode.start(t, { name: 'consumer', folder, connect, ...ttl });
  await consumer.waitForPeers(providerCount);
  return { folder, providers, consumer };
}

/** A volume served on a Unix socket, and a client of it. */
export async function disk(t: Test, { folder, consumer }: Lab, copies: number): Promise<NbdClient> {
  const unixPath = path.join(folder, 'disk.sock');
  await consumer.use(async (client) => {
    await client.call('volume.create', { name: 'disk', sizeBytes: 32 * MIB, copies });
    await client.call('nbd.serve', { name: 'disk', unixPath });
  });
  const nbd = await NbdClient.connect({ path: unixPath }, { exportName: 'disk' });
  t.teardown(() => nbd.close());
  return nbd;
}

/** Writes all over the start of the disk and flushes. */
export async function write(nbd: NbdClient, bytes: Buffer): Promise<void> {
  const jobs: Promise<void>[] = [];
  for (let offset = 0; offset < bytes.length; offset += CHUNK) {
    jobs.push(nbd.write(offset, bytes.subarray(offset, offset + CHUNK)));
  }
  await Promise.all(jobs);
  await nbd.flush();
}

/** Reads everything; how many chunks were right, wrong and refused. */
export async function readBack(
  nbd: NbdClient,
  bytes: Buffer,
): Promise<{ right: number; wrong: number; errors: string[] }> {
  const seen = { right: 0, wrong: 0, errors: [] as string[] };
  const one = async (offset: number): Promise<void> => {
    try {
      const chunk = await nbd.read(offset, CHUNK);
      if (chunk.equals(bytes.subarray(offset, offset + CHUNK))) seen.right += 1;
      else seen.wrong += 1;
    } catch (error) {
      seen.errors.push(String(error));
    }
  };
  const offsets = Array.from({ length: bytes.length / CHUNK }, (_, index) => index * CHUNK);
  await Promise.all(offsets.map(one));
  return seen;
}

/** The volume as the consumer sees it. */
export function volumeOf(node: LabNode): Promise<VolumeDetails> {
  return node.use((client) => client.call('volume.inspect', { name: 'disk' }));
}
