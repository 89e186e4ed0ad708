/** The programs that benchmarks need: which are there, and how the others come. */
import { spawnSync } from 'node:child_process';
import type { ToolName } from './targets/target.ts';

/** sshd(8) wants to be called by its path. */
export const SSHD_PATH = '/usr/sbin/sshd';

interface Tool {
  /** The Debian package. */
  readonly debianPackage: string;
  /** A command that succeeds, and prints `says`, only when the program can do what we need. */
  readonly probe: readonly string[];
  readonly says: RegExp;
}

const TOOLS: Readonly<Record<ToolName, Tool>> = {
  fio: { debianPackage: 'fio', probe: ['fio', '--enghelp'], says: /^\s*nbd$/m },
  nbdkit: { debianPackage: 'nbdkit', probe: ['nbdkit', '--dump-config'], says: /^tls=yes$/m },
  'qemu-nbd': { debianPackage: 'qemu-utils', probe: ['qemu-nbd', '--version'], says: /qemu-nbd/ },
  'nbd-server': {
    debianPackage: 'nbd-server',
    probe: ['nbd-server', '-V'],
    says: /nbd-server version/,
  },
  gcc: { debianPackage: 'gcc', probe: ['gcc', '--version'], says: /gcc/i },
  openssl: { debianPackage: 'openssl', probe: ['openssl', 'version'], says: /^OpenSSL/ },
  strace: { debianPackage: 'strace', probe: ['strace', '--version'], says: /^strace/ },
  perf: { debianPackage: 'linux-perf', probe: ['perf', '--version'], says: /^perf version/ },
  libfuse3: {
    debianPackage: 'libfuse3-dev pkg-config',
    probe: ['pkg-config', '--modversion', 'fuse3'],
    says: /^3\./,
  },
  sshfs: { debianPackage: 'sshfs', probe: ['sshfs', '--version'], says: /SSHFS/ },
  sshd: {
    debianPackage: 'openssh-server',
    probe: ['test', '-x', SSHD_PATH],
    says: /^$/,
  },
  git: { debianPackage: 'git', probe: ['git', '--version'], says: /git version/ },
  'redis-server': {
    debianPackage: 'redis-server',
    probe: ['redis-server', '--version'],
    says: /Redis server/,
  },
  memcached: { debianPackage: 'memcached', probe: ['memcached', '-V'], says: /^memcached/ },
  etcd: { debianPackage: 'etcd-server', probe: ['etcd', '--version'], says: /etcd Version: 3/ },
  tc: { debianPackage: 'iproute2', probe: ['tc', '-V'], says: /iproute2/ },
  nsenter: { debianPackage: 'util-linux', probe: ['nsenter', '--version'], says: /util-linux/ },
  ccache: { debianPackage: 'ccache', probe: ['ccache', '--version'], says: /ccache version/ },
};

const INSTALLER = 'apt-get';
const INSTALL_TIMEOUT_MS = 300_000;
const PROBE_TIMEOUT_MS = 10_000;

/** True when the program is there and was built with what we need. */
function isUsable(name: ToolName): boolean {
  const { probe, says } = TOOLS[name];
  const [command = '', ...args] = probe;
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: PROBE_TIMEOUT_MS });
  return result.status === 0 && says.test(result.stdout);
}

/** The tools of `names` that cannot be used here. */
export function missingTools(names: readonly ToolName[]): ToolName[] {
  return names.filter((name) => !isUsable(name));
}

/** `fio (apt-get install fio)`. */
export function describeTool(name: ToolName): string {
  return `${name} (apt-get install ${TOOLS[name].debianPackage})`;
}

/**
 * Installs the packages of `names` with apt-get, whose output goes to stderr.
 *
 * @throws Error when this is not root or apt-get fails
 */
export function installTools(names: readonly ToolName[]): void {
  if (process.getuid?.() !== 0) throw new Error('--install: expected to be run by root');
  const packages = names.flatMap((name) => TOOLS[name].debianPackage.split(' '));
  const args = ['install', '--yes', '--no-install-recommends', ...packages];
  const result = spawnSync(INSTALLER, args, {
    stdio: ['ignore', 2, 2],
    timeout: INSTALL_TIMEOUT_MS,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (result.status !== 0) {
    throw new Error(`${INSTALLER} install ${packages.join(' ')}: ended with ${result.status}`);
  }
}
