/**
 * The guest's root file system: an ext4 image with node and its libraries, busybox, a few real
 * tools, the kernel modules worth having and the product's run-time packages. The product's own
 * code is not in it (it changes with every build; see initramfs.ts), so the image is made once and
 * kept in the cache under a name that hashes everything it was made of.
 *
 * `mke2fs -d` fills the image without mounting it, so no privilege is needed.
 */
import { createHash } from 'node:crypto';
import { constants, readdirSync, statSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { cacheEntry, pruneCache } from './cache.ts';
import { execute, findProgram } from './host-command.ts';
import {
  moduleClosure,
  moduleName,
  readModuleFacts,
  type GuestKernel,
  type ModuleFacts,
} from './kernel.ts';
import { sharedLibraries } from './libraries.ts';
import { runtimePackages, type InstalledPackage } from './node-modules.ts';

/** Raise it when the layout below changes, so that old images are not used. */
const LAYOUT_VERSION = 3;
const IMAGE_PREFIX = 'root-';
const OVERLAID_PREFIX = 'overlaid-';
const IMAGE_KEEP_COUNT = 3;
/** Room for what commands write, beyond the content: MiB of a sparse file. */
const FREE_SPACE_MIB = 512;
const MKE2FS_TIMEOUT_MS = 120_000;

/** Where the product lies in the guest. */
export const GUEST_PACKAGE_ROOT = '/opt/memcloud';

/**
 * Taken from the host when it has them; busybox covers for most that it lacks. The second line is
 * for a trap: a busybox shell, and whatever of busybox runs other programs, prefers its own applets
 * to the programs in PATH, so that `swapon -p` would reach an applet that knows no `-p`.
 */
const OPTIONAL_PROGRAMS = [
  ...['dash', 'env', 'nice', 'nohup', 'setsid', 'timeout', 'xargs', 'find', 'time'],
  ...['nbd-client', 'mkswap', 'swapon', 'swapoff', 'blkdiscard', 'blockdev', 'mke2fs', 'tune2fs'],
  ...['setpriv', 'chrt', 'fallocate', 'losetup', 'dmsetup', 'fstrim', 'lsblk', 'findmnt'],
];

/** Modules that `modprobe` finds in the guest, with all that they need. */
const MODULES = [
  ...[
    'nbd',
    'fuse',
    'zram',
    'tls',
    'dm-mod',
    'dm-crypt',
    'raid1',
    'md-mod',
    'dm-raid',
    'brd',
    'loop',
  ],
  ...[
    'overlay',
    'veth',
    'wireguard',
    'sch_netem',
    'sch_tbf',
    'null_blk',
    'virtio_rng',
    'binfmt_misc',
  ],
  ...['xts', 'ecb', 'cbc', 'ctr', 'gcm', 'essiv', 'ghash-generic', 'ghash-clmulni-intel'],
  ...['aesni-intel', 'crypto_simd', 'cryptd', 'libchacha', 'chacha_x86_64', 'chacha_generic'],
  ...['libpoly1305', 'poly1305_x86_64', 'poly1305_generic', 'chacha20poly1305', 'aes_generic'],
  ...['libaes', 'lzo-rle', 'lzo', 'lz4', 'zstd', 'algif_skcipher', 'algif_hash'],
];

const TEXT_FILES: Readonly<Record<string, string>> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
  'etc/hosts': '127.0.0.1 localhost guest\n10.0.2.2 host\n::1 localhost\n',
  'etc/hostname': 'guest\n',
  'etc/resolv.conf': 'nameserver 10.0.2.3\n',
  'etc/nsswitch.conf': 'hosts: files dns\npasswd: files\ngroup: files\n',
};

const FOLDERS = ['proc', 'sys', 'dev', 'run', 'tmp', 'root', 'mnt', 'var/lib', 'opt/memcloud/dist'];

interface Copy {
  readonly from: string;
  /** Path in the guest without a leading slash. */
  readonly to: string;
}

/** What goes into a root image. */
export interface RootImageOptions {
  /** The kernel whose modules go in. */
  readonly kernel: GuestKernel;
  /** The folder of the product's package.json. */
  readonly packageRoot: string;
  /** Programs of the host that must be there too, by name or path. */
  readonly programs: readonly string[];
  /** A folder of files that go over the image, and a name that is another when they are. */
  readonly overlay: { readonly folder: string; readonly name: string } | undefined;
  /** The cache folder. */
  readonly cacheFolder: string;
  /** Told when an image is made. */
  readonly onProgress: (text: string) => void;
}

/**
 * The image's path; it is made when the cache has none that is made of the same things.
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` for a program that the host lacks, `ERR_GUEST`
 */
export async function rootImage(options: RootImageOptions): Promise<string> {
  const { kernel, cacheFolder, overlay } = options;
  const packages = runtimePackages(options.packageRoot);
  const copies = await filesToCopy(options.programs, packages);
  const prefix = overlay === undefined ? IMAGE_PREFIX : OVERLAID_PREFIX;
  const name = `${prefix}${contentHash(kernel, copies, packages, overlay?.name)}.img`;
  const image = await cacheEntry(cacheFolder, name, async (target) => {
    options.onProgress('making the guest root image (once)');
    const staging = `${target}-staging`;
    try {
      await stage(staging, kernel, copies, packages, overlay?.folder);
      await makeImage(staging, target);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  });
  await pruneCache(cacheFolder, prefix, IMAGE_KEEP_COUNT);
  return image;
}

async function filesToCopy(
  programs: readonly string[],
  packages: readonly InstalledPackage[],
): Promise<Copy[]> {
  const copies = new Map<string, string>();
  const addWithLibraries = async (file: string, to: string): Promise<void> => {
    copies.set(to, file);
    for (const library of await sharedLibraries(file)) copies.set(library.slice(1), library);
  };
  await addWithLibraries(process.execPath, 'usr/bin/node');
  for (const name of ['busybox', ...OPTIONAL_PROGRAMS, ...programs]) {
    const file = path.isAbsolute(name) ? name : findProgram(name);
    if (file !== undefined) {
      await addWithLibraries(
        file,
        `usr/${file.includes('/sbin/') ? 'sbin' : 'bin'}/${path.basename(file)}`,
      );
    } else if (programs.includes(name)) {
      throw new MemcloudError('ERR_UNSUPPORTED', `the guest needs ${name}, which is not installed`);
    }
  }
  for (const { folder } of packages) {
    for (const file of nativeModules(folder)) {
      for (const library of await sharedLibraries(file)) copies.set(library.slice(1), library);
    }
  }
  return [...copies].map(([to, from]) => ({ from, to }));
}

function nativeModules(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.node'))
    .map((entry) => path.join(entry.parentPath, entry.name));
}

function contentHash(
  kernel: GuestKernel,
  copies: readonly Copy[],
  packages: readonly InstalledPackage[],
  overlayName = '',
): string {
  const hash = createHash('sha256');
  const add = (...fields: (string | number)[]): void => {
    hash.update(`${fields.join('\0')}\n`);
  };
  add(LAYOUT_VERSION, kernel.release, JSON.stringify([TEXT_FILES, FOLDERS, MODULES]));
  for (const { from, to } of copies) {
    const { size, mtimeMs } = statSync(from);
    add(to, from, size, mtimeMs);
  }
  for (const { place, version } of packages) add(place, version);
  add(overlayName);
  return hash.digest('hex').slice(0, 16);
}

async function stage(
  folder: string,
  kernel: GuestKernel,
  copies: readonly Copy[],
  packages: readonly InstalledPackage[],
  overlay: string | undefined,
): Promise<void> {
  for (const name of FOLDERS) await mkdir(path.join(folder, name), { recursive: true });
  // As in Debian: one place for programs and libraries, links for the old names.
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(path.join(folder, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, path.join(folder, name));
  }
  await chmod(path.join(folder, 'tmp'), 0o1777);
  for (const [name, text] of Object.entries(TEXT_FILES)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), text);
  }
  for (const { from, to } of copies) {
    const target = path.join(folder, to);
    await mkdir(path.dirname(target), { recursive: true });
    await copyFile(from, target, constants.COPYFILE_FICLONE);
    await chmod(target, 0o755);
  }
  if (overlay !== undefined) {
    await cp(overlay, folder, { recursive: true, verbatimSymlinks: true });
  }
  await linkBusybox(folder);
  await stageModules(folder, kernel);
  for (const { folder: from, place } of packages) {
    await cp(from, path.join(folder, GUEST_PACKAGE_ROOT, place), {
      recursive: true,
      filter: (source) => !path.relative(from, source).split('/').includes('node_modules'),
    });
  }
}

/** Gives busybox the name of each of its applets that no real program has. */
async function linkBusybox(folder: string): Promise<void> {
  await symlink('mke2fs', path.join(folder, 'usr/sbin/mkfs.ext4'));
  await symlink('dash', path.join(folder, 'usr/bin/sh'));
  const names = await execute('busybox', ['--list'], { timeoutMs: MKE2FS_TIMEOUT_MS });
  const taken = ['usr/bin', 'usr/sbin'].flatMap((name) => readdirSync(path.join(folder, name)));
  for (const name of names.trim().split('\n')) {
    if (!taken.includes(name)) await symlink('busybox', path.join(folder, 'usr/bin', name));
  }
}

async function stageModules(folder: string, kernel: GuestKernel): Promise<void> {
  const target = path.join(folder, 'lib/modules', kernel.release);
  await mkdir(target, { recursive: true });
  const facts = new Map<string, ModuleFacts>();
  for (const name of moduleClosure(kernel, MODULES)) {
    const file = kernel.modules.get(name) ?? '';
    await copyFile(file, path.join(target, `${name}.ko`), constants.COPYFILE_FICLONE);
    facts.set(name, readModuleFacts(file));
  }
  const lines = [...facts].map(([name]) => `${name}.ko:${allNeeds(name, facts)}\n`);
  const aliases = [...facts].flatMap(([name, { aliases: list }]) =>
    list.map((alias) => `alias ${alias} ${moduleName(name)}\n`),
  );
  await writeFile(path.join(target, 'modules.dep'), lines.join(''));
  await writeFile(path.join(target, 'modules.alias'), aliases.join(''));
  for (const name of ['modules.builtin', 'modules.symbols', 'modules.order']) {
    await writeFile(path.join(target, name), '');
  }
}

/** All needs as depmod lists them: read from the end, each comes after its own needs, as modprobe loads. */
function allNeeds(name: string, facts: ReadonlyMap<string, ModuleFacts>): string {
  const order: string[] = [];
  const visit = (needed: string): void => {
    if (order.includes(needed) || !facts.has(needed)) return;
    for (const below of facts.get(needed)?.needs ?? []) visit(below);
    order.push(needed);
  };
  for (const needed of facts.get(name)?.needs ?? []) visit(needed);
  return order
    .reverse()
    .map((needed) => ` ${needed}.ko`)
    .join('');
}

async function makeImage(folder: string, target: string): Promise<void> {
  const usedKib = await execute('du', ['-sk', '--apparent-size', folder], {
    timeoutMs: MKE2FS_TIMEOUT_MS,
  });
  const sizeMib = Math.ceil((Number.parseInt(usedKib, 10) / 1024) * 1.1) + FREE_SPACE_MIB;
  const options = ['-q', '-t', 'ext4', '-O', '^has_journal', '-E', 'root_owner=0:0', '-m', '0'];
  await execute('mke2fs', [...options, '-d', folder, target, `${sizeMib}M`], {
    timeoutMs: MKE2FS_TIMEOUT_MS,
  });
}
