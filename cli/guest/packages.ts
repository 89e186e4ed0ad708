/**
 * What a host must have to boot a guest, and the Debian packages that bring it. Nothing here is
 * installed unless the caller says so: {@link missingGuestTools} only looks.
 */
import { readdirSync } from 'node:fs';
import { MemcloudError } from '../../common/errors.ts';
import { execute, findProgram } from './host-command.ts';

/** One program and the package that brings it. */
export interface GuestTool {
  /** Name of the program. */
  readonly program: string;
  /** Name of the Debian package. */
  readonly debianPackage: string;
}

const APT_TIMEOUT_MS = 600_000;

/** Every program that making and booting a guest calls. */
const GUEST_TOOLS: readonly GuestTool[] = [
  { program: 'qemu-system-x86_64', debianPackage: 'qemu-system-x86' },
  { program: 'busybox', debianPackage: 'busybox-static' },
  { program: 'dash', debianPackage: 'dash' },
  { program: 'mke2fs', debianPackage: 'e2fsprogs' },
  { program: 'setpriv', debianPackage: 'util-linux' },
  { program: 'dpkg-deb', debianPackage: 'dpkg' },
  { program: 'apt-get', debianPackage: 'apt' },
  { program: 'ldd', debianPackage: 'libc-bin' },
  { program: 'nbd-client', debianPackage: 'nbd-client' },
];

/** The programs that this host lacks; empty when a guest can be booted. */
export function missingGuestTools(): GuestTool[] {
  return GUEST_TOOLS.filter((tool) => findProgram(tool.program) === undefined);
}

/**
 * Why this host cannot boot a guest, in one sentence with the command that mends it; undefined
 * when it can. Tests skip with this text.
 */
export function guestUnsupportedReason(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `guests: expected Linux on x64, got ${process.platform} on ${process.arch}`;
  }
  const missing = missingGuestTools();
  if (missing.length === 0) return undefined;
  const programs = missing.map((tool) => tool.program).join(', ');
  return `guests: missing ${programs}; run: apt-get install ${packageNames(missing).join(' ')}`;
}

/**
 * Makes sure that a guest can be booted here.
 *
 * @param options - `install`: run apt-get when something is missing and we are root;
 *   `onProgress`: told what is being done
 * @throws MemcloudError `ERR_UNSUPPORTED` that names the missing packages
 */
export async function ensureGuestPackages(options: {
  install: boolean;
  onProgress?: (text: string) => void;
}): Promise<void> {
  const reason = guestUnsupportedReason();
  if (reason === undefined) return;
  const names = packageNames(missingGuestTools());
  const possible = findProgram('apt-get') !== undefined && process.getuid?.() === 0;
  if (!options.install || !possible || names.length === 0) {
    throw new MemcloudError('ERR_UNSUPPORTED', reason);
  }
  options.onProgress?.(`apt-get install ${names.join(' ')}`);
  await aptGetInstall(names);
  const still = guestUnsupportedReason();
  if (still !== undefined) throw new MemcloudError('ERR_UNSUPPORTED', still);
}

async function aptGetInstall(names: readonly string[]): Promise<void> {
  const install = ['install', '-y', '--no-install-recommends', ...names];
  const options = {
    timeoutMs: APT_TIMEOUT_MS,
    environment: { DEBIAN_FRONTEND: 'noninteractive' },
  };
  if (!aptListsPresent()) await execute('apt-get', ['update'], options);
  try {
    await execute('apt-get', install, options);
  } catch {
    // The lists may be older than the archive: renew them, then it must work.
    await execute('apt-get', ['update'], options);
    await execute('apt-get', install, options);
  }
}

/** True when apt knows any package at all. */
export function aptListsPresent(): boolean {
  try {
    return readdirSync('/var/lib/apt/lists').some((name) => name.includes('Packages'));
  } catch {
    return false;
  }
}

function packageNames(tools: readonly GuestTool[]): string[] {
  return [...new Set(tools.map((tool) => tool.debianPackage))];
}
