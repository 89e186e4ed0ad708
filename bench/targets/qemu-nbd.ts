/** qemu-nbd as a peer: a raw file on a tmpfs, over a Unix socket, one hop, no encryption. */
import fs from 'node:fs';
import path from 'node:path';
import type { Stage } from '../stage.ts';
import { unixUri } from './nbdkit.ts';
import type { Target } from './target.ts';

const START_TIMEOUT_MS = 10_000;
const TMPFS_PATH = '/dev/shm';
/** statfs(2), TMPFS_MAGIC. */
const TMPFS_MAGIC = 0x01021994;
/** One for fio, some for whoever looks. */
const CLIENT_COUNT_MAX = 4;

/** An empty file of `sizeBytes` on a tmpfs. @throws Error when there is no tmpfs */
export function sparseTmpfsFile(
  stage: Stage,
  sizeBytes: number,
): { readonly path: string; readonly remove: () => void } {
  if (fs.statfsSync(TMPFS_PATH).type !== TMPFS_MAGIC) {
    throw new Error(`${TMPFS_PATH}: expected a tmpfs, got another file system`);
  }
  const file = path.join(stage.makeDirectoryIn(TMPFS_PATH), 'image.raw');
  fs.writeFileSync(file, '');
  fs.truncateSync(file, sizeBytes);
  return { path: file, remove: () => fs.rmSync(file, { force: true }) };
}

/** See the top of the file. */
export const qemuNbd: Target = {
  name: 'qemu-nbd',
  description: 'qemu-nbd on a tmpfs file, Unix socket, plain, one hop',
  tools: ['qemu-nbd'],
  ours: false,
  start: async (stage, sizeBytes) => {
    const image = sparseTmpfsFile(stage, sizeBytes);
    const directory = stage.makeDirectory('qemu-nbd');
    const socketPath = path.join(directory, 'nbd.sock');
    const pidFile = path.join(directory, 'pid');
    const args = [
      ...['--persistent', `--shared=${CLIENT_COUNT_MAX}`, '--format=raw'],
      ...[`--pid-file=${pidFile}`, `--socket=${socketPath}`, image.path],
    ];
    const isReady = (): boolean => fs.existsSync(pidFile) && fs.existsSync(socketPath);
    const server = await stage.serve('qemu-nbd', args, START_TIMEOUT_MS, isReady);
    const stop = async (): Promise<void> => {
      await server.stop();
      image.remove();
    };
    return { uri: unixUri(socketPath), pids: [server.pid], stop };
  },
};
