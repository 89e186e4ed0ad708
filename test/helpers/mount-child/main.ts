/**
 * A program that speaks with the daemon as the process of a mount does, over a kernel that is a folder: a
 * mount is a file in it, named by its process, with a line of the format of /proc/self/mountinfo. The
 * folder is FAKE_MOUNT_TABLE. What goes wrong is asked for by the name of the volume.
 *
 *     failing      says why it cannot mount
 *     speechless   ends before it says anything
 *     slow         is never ready
 *     busy         its mount is in use: only a lazy unmount works
 *     deaf         never answers an unmount
 *     forging      reports a provider
 */
import fs from 'node:fs';
import path from 'node:path';
import type { FromMount, MountRequest, ToMount } from '../../../daemon/mounts/protocol.ts';

const file = path.join(process.env['FAKE_MOUNT_TABLE'] ?? '', String(process.pid));
let request: MountRequest | undefined;
let directory = '';
let peerNames = '';

function say(message: FromMount): void {
  process.send?.(message, undefined, undefined, () => undefined);
}

function mount(at: string): void {
  directory = at;
  const device = `0:${process.pid}`;
  fs.writeFileSync(file, `9 1 ${device} / ${at} rw shared:1 - fuse.memcloud memcloud rw\n`);
}

function unmount(): void {
  fs.rmSync(file, { force: true });
  directory = '';
}

function onStart(wanted: MountRequest): void {
  request = wanted;
  switch (wanted.volumeName) {
    case 'failing':
      say({ type: 'failed', code: 'ERR_UNSUPPORTED', message: 'no /dev/fuse here' });
      return;
    case 'speechless':
      process.exit(3);
      break;
    case 'slow':
      return;
    default:
      mount(wanted.directory);
      say({ type: 'mounted' });
      if (wanted.volumeName !== 'forging') return;
      say({ type: 'quarantine', nodeId: 'ab'.repeat(16), reason: 'wrong bytes' });
  }
}

process.on('message', (message: ToMount) => {
  switch (message.type) {
    case 'start':
      peerNames = message.peers.map(({ name }) => name).join(' ');
      onStart(message.request);
      break;
    case 'peers':
      peerNames = message.peers.map(({ name }) => name).join(' ');
      break;
    case 'leases':
      break;
    case 'status':
      if (request === undefined) return;
      say({
        type: 'status',
        id: message.id,
        status: {
          ...{ directory, volumeName: request.volumeName, sizeBytes: request.sizeBytes },
          ...{ usedBytes: 4096, inodeCount: 2, metadataBytes: 512, leasedBytes: 8192 },
          ...{ copies: request.copies, degradedSlabs: 0, damagedFiles: [], damagedFileCount: 0 },
          providers: [{ name: peerNames, up: true, leasedBytes: 8192 }],
          ...{ requestCount: 7, transport: 'kernel', pid: process.pid },
        },
      });
      break;
    case 'unmount': {
      const name = request?.volumeName;
      if (name === 'deaf') return;
      const busy = name === 'busy' && !message.lazy;
      if (!busy) unmount();
      say({ type: 'unmounted', id: message.id, busy });
      if (!busy && !message.keep) process.disconnect();
      break;
    }
    case 'remount':
      mount(message.directory);
      say({ type: 'remounted', id: message.id, error: null });
      break;
  }
});
// Somebody else unmounts it.
process.on('SIGUSR2', () => {
  unmount();
  say({ type: 'unmounted', id: 0, busy: false });
  if (request?.keep !== true) process.disconnect();
});
process.on('SIGINT', () => undefined);
// The daemon has died.
process.on('disconnect', () => {
  unmount();
  process.exit(0);
});
