/**
 * The files of a Debian package of this installation, as they lie on a machine that has it: the program with
 * the packages that it needs at run time in /usr/lib/memcloud, names for it in /usr/bin, manual pages and
 * completion where the system looks for them. No unit is among them: `memcloud service install` writes those,
 * since whether a machine lends is for its owner to say; the package takes them off when it is removed.
 */
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { runtimePackages } from '../guest/node-modules.ts';
import { SCRIPTS } from '../reference/completion.ts';

const PROGRAM_FOLDER = 'usr/lib/memcloud';
/** Of the checkout, beside `dist` and `node_modules`. */
const COPIED = [
  ...['README.md', 'CHANGELOG.md', 'SECURITY.md', 'LICENSE', 'package.json'],
  ...['docs', 'kernel-scripts', 'man', 'systemd'],
];
/** Of `dist`, what only a checkout uses. */
const LEFT_OUT = ['test', 'bench', 'examples', '.built', '.tsbuildinfo'];
const LINKS: Readonly<Record<string, string>> = {
  'usr/bin/memcloud': '../lib/memcloud/dist/cli/main.js',
  'usr/bin/memcli': '../lib/memcloud/dist/cli/main.js',
  'usr/bin/memnode': '../lib/memcloud/dist/daemon/main.js',
  'usr/sbin/mount.memcloud': '../lib/memcloud/kernel-scripts/mount.memcloud',
  'usr/share/man/man1/memcli.1.gz': 'memcloud.1.gz',
};
const PROGRAMS = ['dist/cli/main.js', 'dist/daemon/main.js'];
const COMPLETION: Readonly<Record<keyof typeof SCRIPTS, string>> = {
  bash: 'usr/share/bash-completion/completions/memcloud',
  zsh: 'usr/share/zsh/vendor-completions/_memcloud',
  fish: 'usr/share/fish/vendor_completions.d/memcloud.fish',
};
/** Names of machines as Node has them, and as Debian has them. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/** Takes swap, mounts and units of ours off before the programs go, or keeps the package. */
const PRERM = `#!/bin/sh
# Takes swap off, unmounts, ends memnode and removes the units, if "memcloud service install" made them.
# usage: prerm remove|upgrade|... (by dpkg, as root)
set -eu
if [ "$1" = remove ] && [ -e /etc/systemd/system/memnode.service ]; then
  memcloud service uninstall
fi
`;

/** What a package is called. */
export interface PackageName {
  /** Version of the program. */
  readonly version: string;
  /** Machine, in Debian's words. */
  readonly architecture: string;
}

/** The package that this machine can make, of the installation in `root`. */
export function packageName(root: string): PackageName {
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    version: string;
  };
  return { version, architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

function put(file: string, content: string | Uint8Array, mode = 0o644): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content, { mode });
}

/** Copies what is there, links followed; `skipped` are names directly under `from`. */
function copy(from: string, to: string, skipped: readonly string[] = []): void {
  fs.cpSync(from, to, {
    recursive: true,
    dereference: true,
    filter: (source) => !skipped.includes(path.relative(from, source)),
  });
}

/** Modes that do not depend on who made the tree: what may be run by its owner may be run by all. */
function settleModes(folder: string): void {
  fs.chmodSync(folder, 0o755);
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const place = path.join(folder, entry.name);
    if (entry.isDirectory()) settleModes(place);
    else if (entry.isFile()) {
      fs.chmodSync(place, (fs.statSync(place).mode & 0o100) === 0 ? 0o644 : 0o755);
    }
  }
}

function sizeOf(folder: string): number {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + fs.statSync(path.join(parentPath, name)).size, 0);
}

function controlFile({ version, architecture }: PackageName, sizeBytes: number): string {
  return [
    'Package: memcloud',
    `Version: ${version}`,
    `Architecture: ${architecture}`,
    'Maintainer: The MemCloud authors <memcloud@localhost>',
    `Installed-Size: ${Math.ceil(sizeBytes / 1024)}`,
    'Depends: nodejs (>= 20.19)',
    'Suggests: dmsetup, mdadm, nbd-client',
    'Section: admin',
    'Priority: optional',
    'Description: idle RAM of the machines around as swap, disks, files and objects',
    ' memnode lends RAM to machines that it trusts and borrows theirs; memcloud asks it.',
    ' Pages are encrypted before they leave. Nothing is started by the installation:',
    ' memcloud service install, or memcloud node start.',
    '',
  ].join('\n');
}

/**
 * Lays out a package, with its `DEBIAN` folder, for dpkg-deb.
 *
 * @param root - the built installation
 * @param folder - an empty one
 */
export function layOut(root: string, folder: string): void {
  const program = path.join(folder, PROGRAM_FOLDER);
  for (const name of COPIED) copy(path.join(root, name), path.join(program, name));
  copy(path.join(root, 'dist'), path.join(program, 'dist'), LEFT_OUT);
  for (const { place, folder: from } of runtimePackages(root)) {
    copy(from, path.join(program, place), ['node_modules']);
  }
  for (const name of PROGRAMS) fs.chmodSync(path.join(program, name), 0o755);
  for (const [name, section] of [
    ['memcloud', 1],
    ['memnode', 8],
  ] as const) {
    const page = fs.readFileSync(path.join(root, `man/${name}.${section}`));
    put(path.join(folder, `usr/share/man/man${section}/${name}.${section}.gz`), gzipSync(page));
  }
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    put(path.join(folder, COMPLETION[shell]), SCRIPTS[shell]);
  }
  const documents = path.join(folder, 'usr/share/doc/memcloud');
  put(path.join(documents, 'copyright'), fs.readFileSync(path.join(root, 'LICENSE')));
  put(path.join(documents, 'README.md'), fs.readFileSync(path.join(root, 'README.md')));
  for (const [name, target] of Object.entries(LINKS)) {
    const link = path.join(folder, name);
    fs.mkdirSync(path.dirname(link), { recursive: true });
    fs.symlinkSync(target, link);
  }
  const size = sizeOf(folder);
  put(path.join(folder, 'DEBIAN/control'), controlFile(packageName(root), size));
  put(path.join(folder, 'DEBIAN/prerm'), PRERM, 0o755);
  settleModes(folder);
}
