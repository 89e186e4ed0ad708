/** Checks of the kernel's parts, the tools and the rights of whoever asks. */
import { formatSize } from '../../common/units.ts';
import type { MachineFacts } from './facts.ts';
import { ok, problem, warning, type CheckResult } from './finding.ts';

/** Bit numbers of Linux `include/uapi/linux/capability.h`, and what needs them. */
const CAPABILITIES = [
  { bit: 12n, name: 'CAP_NET_ADMIN', use: 'attach' },
  { bit: 21n, name: 'CAP_SYS_ADMIN', use: 'attach, swap on, tmpfs without swap' },
  { bit: 23n, name: 'CAP_SYS_NICE', use: 'real-time priority of memnode' },
  { bit: 24n, name: 'CAP_SYS_RESOURCE', use: 'PR_SET_IO_FLUSHER, a lower OOM score' },
] as const;

/** A ring of 64 MiB, twice: for two volumes, with keys and buffers. */
const MEMLOCK_WANTED_BYTES = 128 * 2 ** 20;

/** Node.js. */
export function checkNode({ nodeVersion }: MachineFacts): CheckResult[] {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return [ok('node', `Node ${nodeVersion}`)];
  const finding = `Node ${nodeVersion} is too old: 20.19 or later is needed`;
  return [problem('node', finding, 'npm install --global node@20')];
}

/** What an unprivileged look leaves out. */
export function checkPrivileges({ root }: MachineFacts): CheckResult[] {
  if (root) return [];
  const finding =
    'not root: the firewall and the protections of another user’s memnode cannot be seen, ' +
    'and rights are judged as they are now';
  return [warning('privileges', finding, 'sudo memcloud doctor')];
}

/** The nbd module: without it no device. */
export function checkNbd({ kernel }: MachineFacts): CheckResult[] {
  const check = 'nbd module';
  switch (kernel.modules.nbd) {
    case 'ready':
      return [ok(check, 'the kernel can attach network block devices')];
    case 'loadable': {
      const finding = 'nbd is not loaded: nbd attach, swap on and run need it';
      return [warning(check, finding, 'modprobe nbd nbds_max=16')];
    }
    case 'absent': {
      const finding =
        'this kernel has no nbd module: no swap and no /dev/nbdN here; nbd serve and volumes work';
      return [problem(check, finding, 'apt-get install linux-image-cloud-amd64')];
    }
  }
}

/** What the direct path needs: kTLS and its cipher, dm-crypt and its cipher, dmsetup. */
export function checkDirectPath(facts: MachineFacts): CheckResult[] {
  const { modules, ciphers } = facts.kernel;
  const results: CheckResult[] = [];
  const part = (check: string, there: boolean, what: string, cost: string): void => {
    const upgrade = 'apt-get install linux-image-amd64';
    results.push(there ? ok(check, what) : warning(check, cost, upgrade));
  };
  const scoped = 'the direct path of swap is closed; memcloud run works';
  const tunnel = 'the direct path of swap needs a WireGuard link; memcloud run works';
  part(
    'kernel TLS',
    modules.tls !== 'absent' && ciphers['rfc7539(chacha20,poly1305)'] !== 'absent',
    'the kernel can encrypt swap on its way to a lender',
    modules.tls === 'absent'
      ? `no tls module: ${tunnel}`
      : `no chacha20-poly1305 in this kernel: ${tunnel}`,
  );
  part(
    'dm-crypt',
    modules['dm-crypt'] !== 'absent' && ciphers['xts(aes)'] !== 'absent',
    'pages on the direct path can be kept secret from lenders',
    modules['dm-crypt'] === 'absent'
      ? `no dm-crypt module: lenders could read pages, so ${scoped}`
      : `no xts(aes) in this kernel: dm-crypt cannot hide pages from lenders, so ${scoped}`,
  );
  part(
    'mirrors',
    modules.raid1 !== 'absent',
    'the kernel can keep two copies on the direct path',
    'no raid1 module: the direct path keeps one copy only',
  );
  return [...results, ...checkDirectTry(facts)];
}

/**
 * What the daemon found when it tried. Modules that are merely not loaded are left out, since swap on
 * loads them; where a sentence names the command that mends, that is it.
 */
function checkDirectTry(facts: MachineFacts): CheckResult[] {
  const { directProblems, directConnection, scriptsFolder } = facts;
  if (directProblems === undefined) return [];
  const check = 'direct path';
  const lasting = directProblems.filter((sentence) => !/module is not loaded/.test(sentence));
  if (lasting.length === 0 && directConnection === 'wireguard') {
    return [ok(check, 'without kernel TLS swap on uses it through WireGuard')];
  }
  if (lasting.length === 0) return [ok(check, 'memnode tried: swap on can use it')];
  return lasting.map((sentence) => {
    const named = /\brun: ([^;]+)$|\(([a-z-]+ [^()]+)\)$/.exec(sentence);
    return warning(check, sentence, named?.[1] ?? named?.[2] ?? `${scriptsFolder}/check-kernel.sh`);
  });
}

/** The programs that swap is set up with. */
export function checkTools({ kernel: { tools } }: MachineFacts): CheckResult[] {
  const results: CheckResult[] = [];
  const missing = (['mkswap', 'swapon', 'swapoff'] as const).filter((tool) => !tools[tool]);
  if (missing.length > 0) {
    const finding = `${missing.join(', ')} not found: swap on and run need them`;
    results.push(problem('tools', finding, 'apt-get install util-linux mount'));
  }
  if (!tools.dmsetup) {
    const finding = 'dmsetup not found: the direct path of swap needs it to encrypt';
    results.push(warning('tools', finding, 'apt-get install dmsetup'));
  }
  if (!tools.mdadm) {
    const finding = 'mdadm not found: the direct path of swap needs it for two copies';
    results.push(warning('tools', finding, 'apt-get install mdadm'));
  }
  if (results.length > 0) return results;
  return [ok('tools', 'mkswap, swapon, swapoff, dmsetup and mdadm are there')];
}

/** The rights of this process; the daemon's own may differ (see the kit). */
export function checkCapabilities({ kernel, root }: MachineFacts): CheckResult[] {
  const check = 'capabilities';
  const { capabilities } = kernel;
  if (capabilities === undefined) {
    return [warning(check, '/proc/self/status does not tell', 'mount -t proc proc /proc')];
  }
  const missing = CAPABILITIES.filter(({ bit }) => ((capabilities >> bit) & 1n) === 0n);
  if (missing.length === 0) return [ok(check, 'everything that swap needs')];
  const finding = `missing: ${missing.map(({ name, use }) => `${name} (${use})`).join(', ')}`;
  const fix = root
    ? 'start memnode by its systemd unit, or the container with --cap-add'
    : 'sudo memcloud doctor';
  return [warning(check, finding, fix)];
}

/** Whether rings and keys can be locked. */
export function checkMemlock({ kernel: { memlockBytes }, root }: MachineFacts): CheckResult[] {
  const check = 'locked memory';
  if (memlockBytes >= MEMLOCK_WANTED_BYTES || root) {
    return [ok(check, 'the ring and keys can be locked in RAM')];
  }
  const finding =
    `at most ${formatSize(memlockBytes)} can be locked: keys and pages on their way may be ` +
    'swapped; LimitMEMLOCK=infinity in a unit';
  return [warning(check, finding, 'ulimit -l unlimited')];
}
