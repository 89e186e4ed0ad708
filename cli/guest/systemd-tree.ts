/**
 * Debian's systemd for a guest: downloaded and unpacked but never installed, and of it only what a
 * guest needs to start and stop services in order: process 1, its journal, udev and the tools. The
 * command agent is a service that nothing stops before the very end, and the network is one that
 * takes its interface down when it is stopped, so that whoever needed it longer is found out.
 */
import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  readdir,
  realpath,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { cacheEntry, pruneCache } from './cache.ts';
import { execute } from './host-command.ts';
import { agentScript } from './init-script.ts';
import { sharedLibraries } from './libraries.ts';

/** Raise it when {@link arrange} changes, so that old trees are not used. */
const LAYOUT_VERSION = 1;
const TREE_PREFIX = 'systemd-';
const PACKAGES = ['systemd', 'libsystemd-shared', 'udev', 'mount'];
const APT_TIMEOUT_MS = 300_000;
const UNPACK_TIMEOUT_MS = 60_000;

/** Everything goes to the serial console, where it outlives the guest. */
export const SYSTEMD_KERNEL_ARGUMENTS: readonly string[] = [
  ...['systemd.show_status=0', 'systemd.journald.forward_to_console=1', 'systemd.firstboot=0'],
  ...['systemd.journald.max_level_console=info', 'systemd.gpt_auto=0', 'fsck.mode=skip'],
];

/** Paths in the packages; a folder is taken whole. */
const TAKEN = [
  ...['lib/systemd/systemd', 'lib/systemd/systemd-journald', 'lib/systemd/systemd-shutdown'],
  ...['lib/systemd/systemd-udevd', 'lib/systemd/systemd-sysv-install', 'lib/systemd/system'],
  ...['bin/systemctl', 'bin/journalctl', 'bin/udevadm', 'bin/mount', 'bin/umount'],
  ...['usr/bin/systemd-analyze', 'usr/bin/systemd-run', 'usr/bin/systemd-cgls'],
  ...['lib/udev/rules.d/50-udev-default.rules', 'lib/udev/rules.d/60-block.rules'],
  ...['lib/udev/rules.d/99-systemd.rules', 'usr/lib/x86_64-linux-gnu/systemd'],
];

/** Who starts what; the packages' own links are for a whole machine. */
const WANTS: Readonly<Record<string, readonly string[]>> = {
  'sysinit.target': [
    ...['systemd-journald.service', 'systemd-udevd.service', 'systemd-udev-trigger.service'],
    'guest-agent.service',
  ],
  'sockets.target': [
    ...['systemd-journald.socket', 'systemd-journald-dev-log.socket'],
    ...['systemd-udevd-control.socket', 'systemd-udevd-kernel.socket'],
  ],
  'multi-user.target': ['guest-network.service'],
};

const TEXT_FILES: Readonly<Record<string, string>> = {
  'etc/machine-id': '6d656d636c6f7564677565737430303a\n',
  'etc/os-release': 'ID=debian\nNAME="memcloud guest"\n',
  'etc/fstab': '',
  'etc/group': ['root:x:0:', 'tty:x:5:', 'disk:x:6:', 'kmem:x:15:', 'dialout:x:20:', 'lp:x:7:']
    .concat(['audio:x:29:', 'video:x:44:', 'input:x:101:', 'cdrom:x:24:', 'tape:x:26:'])
    .concat(['sgx:x:102:', 'kvm:x:103:', 'render:x:104:', 'systemd-journal:x:105:'])
    .concat(['nogroup:x:65534:', ''])
    .join('\n'),
  'usr/lib/guest-agent': `#!/bin/busybox sh\nmkdir -p /run/guest\n${agentScript('')}`,
  'etc/systemd/system/guest-agent.service': `[Unit]
Description=Command agent of the guest
DefaultDependencies=no
IgnoreOnIsolate=yes
[Service]
ExecStart=/usr/bin/busybox sh /usr/lib/guest-agent
OOMScoreAdjust=-1000
`,
  'etc/systemd/system/guest-network.service': `[Unit]
Description=Network of the guest
DefaultDependencies=no
After=systemd-udevd.service
Before=network.target shutdown.target
Wants=network.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2'
ExecStop=/bin/sh -c 'ip link set eth0 down'
`,
};

/**
 * The folder whose files go over a root image, from the cache or made.
 *
 * @throws MemcloudError `ERR_GUEST` when apt cannot bring the packages, `ERR_UNSUPPORTED` when this
 *   host lacks a library that they need
 */
export async function systemdTree(
  cacheFolder: string,
  onProgress: (text: string) => void,
): Promise<{ folder: string; name: string }> {
  const content = JSON.stringify([LAYOUT_VERSION, PACKAGES, TAKEN, WANTS, TEXT_FILES]);
  const name = `${TREE_PREFIX}${createHash('sha256').update(content).digest('hex').slice(0, 16)}`;
  const folder = await cacheEntry(cacheFolder, name, async (target) => {
    onProgress('downloading systemd for the guest (7 MB, unpacked, not installed)');
    const unpacked = `${target}-unpacked`;
    try {
      await downloadAndUnpack(unpacked);
      await arrange(unpacked, target);
    } finally {
      await rm(unpacked, { recursive: true, force: true });
    }
  });
  await pruneCache(cacheFolder, TREE_PREFIX, 1);
  return { folder, name };
}

async function downloadAndUnpack(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const download = ['download', '-q', ...PACKAGES];
  await execute('apt-get', download, { timeoutMs: APT_TIMEOUT_MS, cwd: folder });
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.deb')) continue;
    const place = path.join(folder, name);
    await execute('dpkg-deb', ['-x', place, folder], { timeoutMs: UNPACK_TIMEOUT_MS });
    await rm(place);
  }
}

/** As in an image: everything under usr. */
function placeOf(name: string): string {
  return name.startsWith('usr/') || name.startsWith('etc/') ? name : `usr/${name}`;
}

async function arrange(unpacked: string, target: string): Promise<void> {
  for (const name of TAKEN) {
    const from = path.join(unpacked, name);
    const found = lstatSync(from, { throwIfNoEntry: false });
    if (found === undefined) throw new MemcloudError('ERR_GUEST', `the packages have no ${name}`);
    await cp(from, path.join(target, placeOf(name)), { recursive: true, verbatimSymlinks: true });
  }
  const units = path.join(target, 'usr/lib/systemd/system');
  for (const name of await readdir(units)) {
    if (/\.(wants|requires)$/.test(name)) await rm(path.join(units, name), { recursive: true });
  }
  for (const [name, text] of Object.entries(TEXT_FILES)) {
    await mkdir(path.dirname(path.join(target, name)), { recursive: true });
    await writeFile(path.join(target, name), text);
  }
  for (const [name, wanted] of Object.entries(WANTS)) {
    const folder = path.join(target, 'etc/systemd/system', `${name}.wants`);
    await mkdir(folder, { recursive: true });
    for (const unit of wanted) await symlink(`/${placeOfUnit(unit)}`, path.join(folder, unit));
  }
  await symlink('multi-user.target', path.join(target, 'etc/systemd/system/default.target'));
  await mkdir(path.join(target, 'usr/sbin'), { recursive: true });
  await symlink('../bin/busybox', path.join(target, 'usr/sbin/modprobe'));
  for (const name of ['reboot', 'poweroff', 'halt']) {
    await symlink('../bin/systemctl', path.join(target, 'usr/sbin', name));
  }
  await addLibraries(unpacked, target);
}

function placeOfUnit(unit: string): string {
  const own = `etc/systemd/system/${unit}`;
  return own in TEXT_FILES ? own : `usr/lib/systemd/system/${unit}`;
}

/** Libraries of the programs that the packages do not bring themselves come from the host. */
async function addLibraries(unpacked: string, target: string): Promise<void> {
  const own = 'usr/lib/x86_64-linux-gnu/systemd';
  const searched = path.join(target, own);
  const libraries = new Set<string>();
  const files = [
    ...TAKEN.map((name) => path.join(target, placeOf(name))),
    ...(await readdir(searched)).map((name) => path.join(searched, name)),
  ];
  for (const file of files) {
    for (const library of await sharedLibraries(file, searched)) libraries.add(library);
  }
  for (const library of libraries) {
    if (library.startsWith(target) || library.startsWith(unpacked)) continue;
    const place = path.join(target, placeOf(library.slice(1)));
    await mkdir(path.dirname(place), { recursive: true });
    await copyFile(await realpath(library), place);
    await chmod(place, 0o755);
  }
}
