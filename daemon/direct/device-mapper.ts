/**
 * A layer of dm-crypt with a random key over a device, through `dmsetup`. The key goes to dmsetup on its
 * standard input and from there to the kernel; it is never on a command line, on a disk, or kept here.
 * Source of the table: Linux Documentation/admin-guide/device-mapper/dm-crypt.rst.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { MemcloudError } from '../../common/errors.ts';
import { runTool } from '../../common/tool.ts';

/** Bytes of a sector of the device mapper, whatever the device's own. */
const SECTOR_SIZE_BYTES = 512;
/** Two keys of AES-256, as XTS wants. */
const XTS_KEY_SIZE_BYTES = 64;
const NODE_TIMEOUT_MS = 10_000;
const NODE_POLL_MS = 10;

/** What a dm-crypt layer is laid over. */
export interface CryptLayer {
  /** The device below. */
  readonly device: string;
  /** Bytes of both, a whole number of pages. */
  readonly sizeBytes: number;
}

/**
 * The table of a dm-crypt layer. `allow_discards` lets trims through, so that the provider learns which
 * pages are free; sectors of a page because swap knows no smaller ones. Without the work queues whoever
 * submits a page encrypts it, so that a full request queue below holds the submitter back; with them
 * requests pile up in memory, which is what swapping is short of.
 */
export function cryptTable(layer: CryptLayer, keyHex: string): string {
  const sectors = layer.sizeBytes / SECTOR_SIZE_BYTES;
  const options = [
    'allow_discards',
    'sector_size:4096',
    'iv_large_sectors',
    'no_read_workqueue',
    'no_write_workqueue',
  ];
  return (
    `0 ${sectors} crypt aes-xts-plain64 ${keyHex} 0 ${layer.device} 0 ` +
    `${options.length} ${options.join(' ')}\n`
  );
}

/** A device of the device mapper. */
export interface Mapping {
  /** Its name for dmsetup. */
  readonly name: string;
  /** `/dev/dm-N`. */
  readonly device: string;
}

/** Lays dm-crypt over a device, under a key that only the kernel knows afterwards. @throws MemcloudError `ERR_NATIVE`, `ERR_UNSUPPORTED`, `ERR_TIMEOUT` */
export async function createCrypt(name: string, layer: CryptLayer): Promise<Mapping> {
  const key = randomBytes(XTS_KEY_SIZE_BYTES);
  const table = Buffer.from(cryptTable(layer, key.toString('hex')));
  try {
    return await create(name, table);
  } finally {
    key.fill(0);
    table.fill(0);
  }
}

/** Takes a mapping away; without effect when there is none. @throws MemcloudError `ERR_NATIVE` when it is in use */
export async function removeMapping(name: string): Promise<void> {
  if ((await mappingDevice(name)) === undefined) return;
  await runTool('dmsetup', ['remove', '--noudevsync', '--retry', name]);
}

/** `/dev/dm-N` of a mapping; undefined when there is none. */
async function mappingDevice(name: string): Promise<string | undefined> {
  try {
    const minor = await runTool('dmsetup', ['info', '-c', '--noheadings', '-o', 'minor', name]);
    return `/dev/dm-${minor.trim()}`;
  } catch (error) {
    if (error instanceof MemcloudError && error.code === 'ERR_NATIVE') return undefined;
    throw error;
  }
}

async function create(name: string, table: Buffer): Promise<Mapping> {
  await runTool('dmsetup', ['create', '--noudevsync', name], { input: table });
  const device = await mappingDevice(name);
  if (device === undefined) throw new MemcloudError('ERR_NATIVE', `dmsetup made no ${name}`);
  const deadlineMs = performance.now() + NODE_TIMEOUT_MS;
  while (!existsSync(device)) {
    if (performance.now() > deadlineMs) {
      throw new MemcloudError('ERR_TIMEOUT', `${device} did not appear; is devtmpfs mounted?`);
    }
    await new Promise((resolve) => setTimeout(resolve, NODE_POLL_MS));
  }
  return { name, device };
}
