/** A file becomes a block device that bypasses the cache, and names its file by itself. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { attachLoop, detachLoop, loopFile } from '../../../cli/system/loop-device.ts';
import { hasTool } from '../../../common/tool.ts';

const MIB = 2 ** 20;

function skipReason(): string | false {
  if (process.getuid?.() !== 0) return 'loop devices are root’s';
  if (!hasTool('losetup')) return 'losetup is not installed';
  return fs.existsSync('/dev/loop-control') ? false : 'this kernel has no loop devices';
}

t.test('a file is a block device, found again by its name', { skip: skipReason() }, async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-loop-'));
  const file = path.join(folder, 'swap');
  t.teardown(() => fs.rmSync(folder, { recursive: true }));
  fs.writeFileSync(file, '');
  fs.truncateSync(file, 4 * MIB);
  const device = await attachLoop(file);
  let attached = true;
  t.teardown(async () => {
    if (attached) await detachLoop(device);
  });
  t.match(device, /^\/dev\/loop\d+$/);
  t.equal(loopFile(device), file);
  const name = path.basename(device);
  t.equal(fs.readFileSync(`/sys/block/${name}/size`, 'utf8').trim(), '8192');
  t.equal(fs.readFileSync(`/sys/block/${name}/queue/logical_block_size`, 'utf8').trim(), '4096');
  fs.writeFileSync(device, Buffer.alloc(4096, 0x5a));
  await detachLoop(device);
  attached = false;
  t.same(fs.readFileSync(file).subarray(0, 4096), Buffer.alloc(4096, 0x5a));
  t.equal(loopFile(device), undefined, 'a device that is free has no file');
});

t.test('other devices are none, and a file that is missing is an error', async (t) => {
  for (const device of ['/dev/nbd0', '/dev/loop-control', '/dev/loop0x', 'loop0', '']) {
    t.equal(loopFile(device), undefined, device);
  }
  if (skipReason() !== false) return;
  await t.rejects(attachLoop('/nonexistent/file'), { code: 'ERR_NATIVE' });
});
