/**
 * Every option of the daemon, once: `memnode --help`, the keys of the configuration files, the
 * `MEMCLOUD_*` variables, `memcloud config show`, a reload and `docs/configuration.md` all follow from
 * this table. To add an option, add a row; a test then asks for its line in the document.
 *
 * What is of one start only (`--export`, `--json`, `--config`) is no option of the machine and stays
 * with the command line, in `daemon/config.ts`.
 */
import os from 'node:os';
import { LOG_LEVELS } from '../log.ts';
import { defaultSocketPath, defaultStateDirectory } from '../paths.ts';
import { parseSizeExpression } from '../size-expression.ts';
import { PAGE_SIZE_BYTES } from '../units.ts';
import {
  addresses,
  choice,
  controlTargets,
  filePath,
  keys,
  listenRange,
  number,
  optional,
  size,
  text,
  toggle,
  words,
} from './kinds.ts';
import { mountOption, option, swapOption, type Option } from './option-row.ts';

/** Names of nodes and volumes. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** A systemd unit, or a path of groups: systemd.unit(5) "Units". */
const SCOPE_PATTERN = /^[A-Za-z0-9/@:_.\\-]{1,255}$/;

/** RPC never leaves the machine. */
const LOOPBACK_PATTERN =
  /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]):(0|[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])$/;

/** Below, one lost renewal would end a lease. */
const LEASE_TTL_MIN_S = 5;
const LEASE_TTL_MAX_S = 24 * 3600;
/** Below, an ordinary pause of a busy machine would be taken for death. */
const PEER_DEAD_MIN_MS = 100;
const PEER_DEAD_MAX_MS = 60_000;
const COPIES_MAX = 8;
const MOUNT_MIN_BYTES = 1024 * 1024;
/** swapon(2) takes a priority of 15 bits. */
const PRIORITY_MAX = 32_767;
const RECALL_GRACE_MAX_S = 3600;
const RESERVE_DEFAULT = 'min(10%, 1GiB)';
/** As docs/peer-protocol.md section 7 has it for `host` and `zone`. */
const LABEL = text({
  name: 'name',
  pattern: /^[A-Za-z0-9._-]{1,64}$/,
  expected: '1 to 64 letters, digits, dots or dashes',
});
const OFFER_DEFAULT = 'min(ram/4, 8GiB)';

/** The host name, made a valid node name. */
function defaultName(): string {
  const name = os.hostname().split('.')[0] ?? '';
  const safe = name.replace(/[^A-Za-z0-9._-]/g, '-');
  return NAME_PATTERN.test(safe) ? safe : 'memnode';
}

/** The table. Keys are those of the files; `a.b` is key `b` of the table `[a]`. */
export const OPTIONS = {
  offer: option({
    kind: size(),
    describe: 'RAM to lend; 0 lends none',
    fallback: ({ ramBytes }) => parseSizeExpression(OFFER_DEFAULT, ramBytes),
    fallbackText: OFFER_DEFAULT,
    change: 'live',
  }),
  'peer-allowed': option({
    kind: optional(size()),
    describe: 'RAM that each peer may use here, unless peer update says otherwise; 0 lends to none',
    fallback: () => undefined,
    fallbackText: 'as much as is offered to all',
    change: 'live',
  }),
  name: option({
    kind: text({
      name: 'name',
      pattern: NAME_PATTERN,
      expected: '1 to 63 letters, digits, dots or dashes',
    }),
    describe: 'what peers call this node',
    fallback: defaultName,
    fallbackText: 'the host name',
    change: 'restart',
  }),
  host: option({
    kind: optional(LABEL),
    describe: 'the machine this is: copies of a page are kept on different ones',
    fallback: () => undefined,
    fallbackText: 'told apart by the running kernel',
    change: 'restart',
  }),
  zone: option({
    kind: optional(LABEL),
    describe: 'rack, room or power line: copies are spread over zones where it can be done',
    fallback: () => undefined,
    fallbackText: 'none',
    change: 'restart',
  }),
  reserve: option({
    kind: size(),
    describe: 'RAM that stays available here; below it lent RAM is asked back',
    fallback: ({ ramBytes }) => parseSizeExpression(RESERVE_DEFAULT, ramBytes),
    fallbackText: RESERVE_DEFAULT,
    change: 'live',
  }),
  'recall-grace': option({
    kind: number({ min: 0, max: RECALL_GRACE_MAX_S, unit: ' seconds', isWhole: false }),
    describe: 'seconds to give RAM back in, once three quarters of the reserve are gone',
    fallback: () => 10,
    fallbackText: '10',
    change: 'live',
    isHidden: true,
  }),
  'object-readers': option({
    kind: choice(['trusted', 'private']),
    describe:
      'who may read an object when its writer does not say: every node that its holder trusts, or none',
    fallback: () => 'trusted' as const,
    fallbackText: 'trusted',
    change: 'restart',
  }),
  listen: option({
    kind: listenRange(),
    describe: 'ADDR:PORT for peers, or ADDR:PORT-PORT for the first free one; port 0 chooses one',
    fallback: () => '0.0.0.0:7070-7079',
    fallbackText: '0.0.0.0:7070-7079',
    change: 'restart',
  }),
  connect: option({
    kind: addresses(),
    describe: 'HOST:PORT of a peer; may be repeated',
    fallback: (): readonly string[] => [],
    fallbackText: 'none',
    change: 'live',
  }),
  mdns: option({
    kind: toggle(),
    describe: 'announce this node on its networks and connect those that are announced there',
    fallback: () => true,
    fallbackText: 'true, unless it listens on loopback only',
    change: 'restart',
  }),
  'mdns-interfaces': option({
    kind: words({
      name: 'list of interfaces',
      pattern: /^[^\s/]{1,15}$/,
      expected: 'interfaces such as "eth0"',
    }),
    describe: 'network interface to announce on; may be repeated',
    fallback: (): readonly string[] => [],
    fallbackText: 'all but loopback and bridges of containers',
    change: 'restart',
  }),
  dns: option({
    kind: words({
      name: 'list of names',
      pattern: /^(?!\.)[A-Za-z0-9._-]{1,253}$/,
      expected: 'DNS names such as "pool.example.org"',
    }),
    describe: 'DNS name to find peers by, as SRV _memcloud._tcp.NAME or addresses; may be repeated',
    fallback: (): readonly string[] => [],
    fallbackText: 'none',
    change: 'restart',
  }),
  'peer-exchange': option({
    kind: toggle(),
    describe: 'tell trusted peers of each other, and connect those that they tell of',
    fallback: () => true,
    fallbackText: 'true',
    change: 'restart',
  }),
  'control-plane': option({
    kind: controlTargets(),
    describe:
      'KEY@HOST:PORT of a control node, to lend and borrow by its word; without a key any trusted node ' +
      'may answer there; may be repeated',
    fallback: (): readonly string[] => [],
    fallbackText: 'none',
    change: 'restart',
  }),
  'managed-only': option({
    kind: toggle(),
    describe: 'lend to clients of the control plane only, not to peers',
    fallback: () => false,
    fallbackText: 'false',
    change: 'restart',
  }),
  'auto-trust': option({
    kind: toggle(),
    describe: 'trust first-seen keys WITHOUT ASKING; for labs and tests only',
    fallback: () => false,
    fallbackText: 'false',
    change: 'restart',
  }),
  'trust-fingerprint': option({
    kind: keys(),
    describe: 'words, id or key of a node that is trusted when it is first seen; may be repeated',
    fallback: (): readonly string[] => [],
    fallbackText: 'none',
    change: 'live',
  }),
  'obey-revocations': option({
    kind: toggle(),
    describe: 'deny here what a trusted peer trusts no more, instead of only showing it',
    fallback: () => false,
    fallbackText: 'false',
    change: 'live',
  }),
  'allow-plain': option({
    kind: toggle(),
    describe:
      'serve direct swap over bare TCP, OPEN TO TAMPERING; over WireGuard it is always served',
    fallback: () => false,
    fallbackText: 'false',
    change: 'restart',
  }),
  'memory-dir': option({
    kind: optional(filePath()),
    describe: 'tmpfs directory for lent pages',
    fallback: () => undefined,
    fallbackText: '/dev/shm',
    change: 'restart',
  }),
  state: option({
    kind: filePath(),
    describe: 'directory of identity and trust',
    fallback: () => defaultStateDirectory(),
    fallbackText: '/var/lib/memcloud for root, else ~/.local/state/memcloud',
    change: 'restart',
  }),
  socket: option({
    kind: filePath({ isSocket: true }),
    describe: 'RPC socket',
    fallback: () => defaultSocketPath(),
    fallbackText: '/run/memcloud/memcloud.sock for root, else in $XDG_RUNTIME_DIR',
    change: 'restart',
  }),
  'rpc-group': option({
    kind: text({
      name: 'group',
      pattern: /^([A-Za-z_][A-Za-z0-9_.-]{0,31})?$/,
      expected: 'the name of a group, or nothing',
    }),
    describe: 'members of this group, where it exists, may use the RPC socket',
    fallback: () => 'memcloud',
    fallbackText: 'memcloud',
    change: 'restart',
  }),
  'rpc-tcp': option({
    kind: optional(
      text({
        name: 'loopback:port',
        pattern: LOOPBACK_PATTERN,
        expected: 'a loopback address, as 127.0.0.1:7071',
      }),
    ),
    describe: 'RPC on loopback as well, for clients that show the token in the state directory',
    fallback: () => undefined,
    fallbackText: 'none',
    change: 'restart',
  }),
  'log-level': option({
    kind: choice(LOG_LEVELS),
    describe: 'what is logged on stderr',
    fallback: () => 'info' as const,
    fallbackText: 'info',
    change: 'live',
  }),
  'log-file': option({
    kind: optional(filePath()),
    describe: 'file for the log, instead of stderr; it and one older part stay below 8 MiB',
    fallback: () => undefined,
    fallbackText: 'none',
    change: 'restart',
  }),
  kit: option({
    kind: choice(['auto', 'off']),
    describe: 'protect memnode from the memory shortage that it relieves, as far as it may',
    fallback: () => 'auto' as const,
    fallbackText: 'auto',
    change: 'restart',
  }),
  realtime: option({
    kind: number({ min: 0, max: 99, unit: '', isWhole: true }),
    describe: 'run before ordinary programs: SCHED_FIFO priority, 0 for none',
    fallback: () => 0,
    fallbackText: '0',
    change: 'restart',
  }),
  'lease-ttl': option({
    kind: number({ min: LEASE_TTL_MIN_S, max: LEASE_TTL_MAX_S, unit: ' seconds', isWhole: false }),
    describe: 'seconds that providers keep our pages after we fell silent',
    fallback: () => 120,
    fallbackText: '120',
    change: 'restart',
    isHidden: true,
  }),
  'peer-dead-ms': option({
    kind: number({
      min: PEER_DEAD_MIN_MS,
      max: PEER_DEAD_MAX_MS,
      unit: ' milliseconds',
      isWhole: true,
    }),
    describe: 'milliseconds of silence, requests waiting, until a peer is given up and redialled',
    fallback: () => 500,
    fallbackText: '500',
    change: 'restart',
    isHidden: true,
  }),
  'swap.size': swapOption({
    kind: optional(size({ min: PAGE_SIZE_BYTES })),
    describe: 'size of `swap on` without SIZE',
    fallback: () => undefined,
    fallbackText: 'none',
  }),
  'swap.copies': swapOption({
    kind: optional(number({ min: 1, max: COPIES_MAX, isWhole: true })),
    describe: 'providers that keep each page',
    fallback: () => undefined,
    fallbackText: '2 where two providers are up',
  }),
  'swap.priority': swapOption({
    kind: optional(number({ min: 0, max: PRIORITY_MAX, isWhole: true })),
    describe: 'higher is filled first',
    fallback: () => undefined,
    fallbackText: 'below all others',
  }),
  'swap.path': swapOption({
    kind: choice(['auto', 'direct', 'scoped', 'pool', 'loop']),
    describe: 'direct: the kernel alone; scoped: one unit; pool: through memnode, wants --force',
    fallback: () => 'auto' as const,
    fallbackText: 'auto',
  }),
  'swap.scope': swapOption({
    kind: optional(
      text({
        name: 'unit or group',
        pattern: SCOPE_PATTERN,
        expected: 'the name of a systemd unit, or the path of a control group',
      }),
    ),
    describe: 'unit or control group that swaps where the machine as a whole cannot',
    fallback: () => undefined,
    fallbackText: 'none',
  }),
  'swap.memory': swapOption({
    kind: optional(size({ min: PAGE_SIZE_BYTES })),
    describe: 'RAM of that unit; what does not fit is swapped',
    fallback: () => undefined,
    fallbackText: 'none',
  }),
  'swap.discard': swapOption({
    kind: toggle(),
    describe: 'give the RAM of freed pages back (swapon --discard=pages)',
    fallback: () => true,
    fallbackText: 'true',
  }),
  'mount.directory': mountOption({
    kind: filePath(),
    describe: 'where `mount` without a directory mounts; made when it is not there',
    fallback: () => '/mnt/memcloud',
    fallbackText: '/mnt/memcloud',
  }),
  'mount.size': mountOption({
    kind: optional(size({ min: MOUNT_MIN_BYTES })),
    describe: 'the most that its files may hold',
    fallback: () => undefined,
    fallbackText: 'what the pool can take',
  }),
  'mount.copies': mountOption({
    kind: optional(number({ min: 1, max: COPIES_MAX, isWhole: true })),
    describe: 'providers that keep each page of a file',
    fallback: () => undefined,
    fallbackText: '2 where two providers are up',
  }),
  'mount.profile': mountOption({
    kind: choice(['default', 'build-cache']),
    describe: 'build-cache: quicker with many small files, slower with large ones',
    fallback: () => 'default' as const,
    fallbackText: 'default',
  }),
};

/** A key of the table. */
export type OptionKey = keyof typeof OPTIONS;

/** The value of an option. */
export type OptionValue<K extends OptionKey> =
  (typeof OPTIONS)[K] extends Option<infer T> ? T : never;

/** A value for each option. */
export type OptionValues = { readonly [K in OptionKey]: OptionValue<K> };

/** A key whose changed value counts from a reload on. */
export type LiveKey = {
  [K in OptionKey]: (typeof OPTIONS)[K]['change'] extends 'live' ? K : never;
}[OptionKey];

/** The keys, in the order of the table. */
export const OPTION_KEYS = Object.keys(OPTIONS) as OptionKey[];

/** The tables that keys lie in. */
export const OPTION_TABLES: readonly string[] = [
  ...new Set(OPTION_KEYS.filter((key) => key.includes('.')).map((key) => key.split('.')[0] ?? '')),
];

/** True when `text` is a key of the table. */
export function isOptionKey(text: string): text is OptionKey {
  return Object.hasOwn(OPTIONS, text);
}

/** A row, whatever its type. */
export function optionOf(key: OptionKey): Option<unknown> {
  return OPTIONS[key];
}

/** The environment variable of an option: `MEMCLOUD_LOG_LEVEL`, `MEMCLOUD_SWAP_SIZE`. */
export function variableOf(key: OptionKey): string {
  return `MEMCLOUD_${key.toUpperCase().replace(/[.-]/g, '_')}`;
}
