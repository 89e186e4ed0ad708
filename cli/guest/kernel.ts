/**
 * The guest's kernel: Debian's cloud kernel, downloaded and unpacked but never installed. It has
 * what a host often lacks (`nbd.ko`, `fuse.ko`, `zram.ko`, `tls.ko`, `dm-crypt.ko`).
 *
 * The package holds no `modules.dep` (its install script makes that), so the dependencies are read
 * where depmod reads them: the `.modinfo` section of each module, a run of `key=value\0` strings.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { cacheEntry } from './cache.ts';
import { execute } from './host-command.ts';

/** The package that always depends on the newest cloud kernel. */
const META_PACKAGE = 'linux-image-cloud-amd64';
const APT_TIMEOUT_MS = 300_000;
const UNPACK_TIMEOUT_MS = 120_000;
const KERNEL_PREFIX = 'kernel-';

/** An unpacked kernel. */
export interface GuestKernel {
  /** Its release, as `uname -r` says. */
  readonly release: string;
  /** The compressed kernel. */
  readonly imageFile: string;
  /** Every module: name with underscores -> file. */
  readonly modules: ReadonlyMap<string, string>;
}

/** What a module says about itself. */
export interface ModuleFacts {
  /** Names of the modules that it needs, with underscores. */
  readonly needs: readonly string[];
  /** Other names under which the kernel asks for it. */
  readonly aliases: readonly string[];
}

/**
 * The kernel from the cache, else from the Debian archive.
 *
 * @throws MemcloudError `ERR_GUEST` when apt cannot bring it
 */
export async function fetchKernel(
  cacheFolder: string,
  onProgress: (text: string) => void,
): Promise<GuestKernel> {
  const cached = existsSync(cacheFolder)
    ? readdirSync(cacheFolder).filter((name) => /^kernel-[^/]*-amd64$/.test(name))
    : [];
  const name = cached.sort().at(-1) ?? (await newestPackage());
  const folder = await cacheEntry(cacheFolder, name, async (target) => {
    onProgress(`downloading ${name.slice(KERNEL_PREFIX.length)} (27 MB, unpacked, not installed)`);
    await downloadAndUnpack(`linux-image-${name.slice(KERNEL_PREFIX.length)}`, target);
  });
  return openKernel(folder);
}

async function newestPackage(): Promise<string> {
  const query = (): Promise<string> =>
    execute('apt-cache', ['depends', META_PACKAGE], { timeoutMs: APT_TIMEOUT_MS });
  const pattern = /Depends: linux-image-(\S+-amd64)/;
  let match = pattern.exec(await query().catch(() => ''));
  if (match === null) {
    await execute('apt-get', ['update'], { timeoutMs: APT_TIMEOUT_MS });
    match = pattern.exec(await query());
  }
  if (match?.[1] === undefined) {
    throw new MemcloudError(
      'ERR_GUEST',
      `apt knows no package that ${META_PACKAGE} depends on; is this Debian?`,
    );
  }
  return `${KERNEL_PREFIX}${match[1]}`;
}

async function downloadAndUnpack(packageName: string, target: string): Promise<void> {
  const download = `${target}.deb`;
  await mkdir(download, { recursive: true });
  try {
    await execute('apt-get', ['download', '-q', packageName], {
      timeoutMs: APT_TIMEOUT_MS,
      cwd: download,
    });
    const archive = (await readdir(download)).find((name) => name.endsWith('.deb'));
    if (archive === undefined) {
      throw new MemcloudError('ERR_GUEST', `apt-get download brought no ${packageName}`);
    }
    const unpacked = path.join(download, 'unpacked');
    await execute('dpkg-deb', ['-x', path.join(download, archive), unpacked], {
      timeoutMs: UNPACK_TIMEOUT_MS,
    });
    await rename(unpacked, target);
  } finally {
    await rm(download, { recursive: true, force: true });
  }
}

function openKernel(folder: string): GuestKernel {
  const boot = path.join(folder, 'boot');
  const image = readdirSync(boot).find((name) => name.startsWith('vmlinuz-'));
  const modulesRoot = [path.join(folder, 'lib/modules'), path.join(folder, 'usr/lib/modules')].find(
    (candidate) => existsSync(candidate),
  );
  if (image === undefined || modulesRoot === undefined) {
    throw new MemcloudError('ERR_GUEST', `no kernel in ${folder}; remove it to fetch it again`);
  }
  const modules = new Map<string, string>();
  for (const entry of readdirSync(modulesRoot, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ko')) continue;
    modules.set(moduleName(entry.name.slice(0, -3)), path.join(entry.parentPath, entry.name));
  }
  return {
    release: image.slice('vmlinuz-'.length),
    imageFile: path.join(boot, image),
    modules,
  };
}

/** The kernel's own spelling of a module name: underscores. */
export function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/** Reads a module's `.modinfo` strings. */
export function readModuleFacts(file: string): ModuleFacts {
  const text = readFileSync(file).toString('latin1');
  const values = (key: string): string[] =>
    [...text.matchAll(new RegExp(`\\0${key}=([^\\0]*)`, 'g'))].map((match) => match[1] ?? '');
  const needs = values('depends').flatMap((list) => list.split(','));
  return {
    needs: needs.filter((name) => name !== '').map(moduleName),
    aliases: values('alias'),
  };
}

/**
 * The named modules and all that they need, each after its needs. Names that the kernel does not
 * have as modules (built in, or of another version) are left out.
 */
export function moduleClosure(kernel: GuestKernel, names: readonly string[]): string[] {
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = (name: string): void => {
    const file = kernel.modules.get(name);
    if (file === undefined || seen.has(name)) return;
    seen.add(name);
    for (const needed of readModuleFacts(file).needs) visit(needed);
    order.push(name);
  };
  for (const name of names) visit(moduleName(name));
  return order;
}
