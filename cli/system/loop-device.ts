/**
 * Loop devices: a file as a block device, for kernels without nbd. Requests go to the file directly
 * (`--direct-io`), else the kernel would keep each page of swap a second time in its cache, in the very
 * memory that swapping is to free.
 */
import fs from 'node:fs';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';
import { runTool } from '../../common/tool.ts';

const LOOP_DEVICE = /^\/dev\/loop\d+$/;

/** Loads what the way over a file needs; what is built in cannot be loaded, and need not. */
export async function loadLoopModules(): Promise<void> {
  for (const name of ['loop', 'fuse']) await runTool('modprobe', [name]).catch(() => undefined);
}

/** A file as a block device. @returns its path @throws MemcloudError `ERR_UNSUPPORTED`, `ERR_NATIVE` */
export async function attachLoop(file: string): Promise<string> {
  const sector = String(PAGE_SIZE_BYTES);
  const words = ['--find', '--show', '--direct-io=on', '--sector-size', sector, file];
  return (await runTool('losetup', words)).trim();
}

/** Ends a loop device. @throws MemcloudError `ERR_NATIVE` */
export async function detachLoop(device: string): Promise<void> {
  await runTool('losetup', ['--detach', device]);
}

/**
 * The file under a loop device, as the kernel names it; undefined for other devices. Asks sysfs, never
 * the file system of the file, which may be gone.
 */
export function loopFile(device: string): string | undefined {
  if (!LOOP_DEVICE.test(device)) return undefined;
  try {
    const name = device.slice('/dev/'.length);
    return fs.readFileSync(`/sys/class/block/${name}/loop/backing_file`, 'utf8').trim();
  } catch {
    return undefined;
  }
}
