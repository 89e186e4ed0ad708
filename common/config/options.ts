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
  address,
  addresses,
  choice,
  filePath,
  number,
  optional,
  size,
  text,
  toggle,
  type ValueKind,
} from './kinds.ts';

/** When a changed value counts: at a reload, at the next start, for the next `swap on` or `mount`. */
export type Change = 'live' | 'restart' | 'next swap on' | 'next mount';

/** One option. */
export interface Option<T, C extends Change = Change> {
  /** What may be written. */
  readonly kind: ValueKind<T>;
  /** One line of help, beginning in lower case, without a full stop. */
  readonly describe: string;
  /** The value that nobody has to write. */
  readonly fallback: (machine: { readonly ramBytes: number }) => T;
  /** That value in words. */
  readonly fallbackText: string;
  /** When a changed value counts. */
  readonly change: C;
  /** True when memnode takes it as `--key`. */
  readonly hasFlag: boolean;
  /** True when only `--show-hidden` shows it. */
  readonly isHidden: boolean;
}

/** Names of nodes and volumes. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** A systemd unit, or a path of groups: systemd.unit(5) "Units". */
const SCOPE_PATTERN = /^[A-Za-z0-9/@:_.\\-]{1,255}$/;

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

function option<T, const C extends Change>(
  row: Omit<Option<T, C>, 'hasFlag' | 'isHidden'> & { readonly isHidden?: boolean },
): Option<T, C> {
  return { hasFlag: true, isHidden: false, ...row };
}

function swapOption<T>(
  row: Pick<Option<T>, 'kind' | 'describe' | 'fallback' | 'fallbackText'>,
): Option<T, 'next swap on'> {
  return { hasFlag: false, isHidden: false, change: 'next swap on', ...row };
}

function mountOption<T>(
  row: Pick<Option<T>, 'kind' | 'describe' | 'fallback' | 'fallbackText'>,
): Option<T, 'next mount'> {
  return { hasFlag: false, isHidden: false, change: 'next mount', ...row };
}

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
  listen: option({
    kind: address(),
    describe: 'ADDR:PORT for peers; port 0 chooses one',
    fallback: () => '0.0.0.0:7070',
    fallbackText: '0.0.0.0:7070',
    change: 'restart',
  }),
  connect: option({
    kind: addresses(),
    describe: 'HOST:PORT of a peer; may be repeated',
    fallback: (): readonly string[] => [],
    fallbackText: 'none',
    change: 'live',
  }),
  'auto-trust': option({
    kind: toggle(),
    describe: 'trust first-seen keys WITHOUT ASKING; for labs and tests only',
    fallback: () => false,
    fallbackText: 'false',
    change: 'restart',
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
  'log-level': option({
    kind: choice(LOG_LEVELS),
    describe: 'what is logged on stderr',
    fallback: () => 'info' as const,
    fallbackText: 'info',
    change: 'live',
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
