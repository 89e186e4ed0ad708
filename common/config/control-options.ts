/**
 * The options of a control node: flags of `memcloud control-plane` over `MEMCLOUD_CONTROL_*` variables over
 * defaults. It is a small program beside memnode and reads no configuration file: what an operator decides
 * about the control plane is in its store.
 */
import { LOG_LEVELS } from '../log.ts';
import { MemcloudError, asMemcloudError } from '../errors.ts';
import { controlSocketPath, controlStateDirectory } from '../paths.ts';
import { address, choice, filePath, optional, text, type ValueKind } from './kinds.ts';
import { OPTIONS } from './options.ts';

/** One option. */
interface ControlOption<T> {
  /** What may be written. */
  readonly kind: ValueKind<T>;
  /** One line of help. */
  readonly describe: string;
  /** The value that nobody has to write. */
  readonly fallback: () => T;
  /** That value in words. */
  readonly fallbackText: string;
}

function option<T>(row: ControlOption<T>): ControlOption<T> {
  return row;
}

/** The table; the keys are those of the flags. */
export const CONTROL_OPTIONS = {
  store: option({
    kind: optional(
      text({
        name: 'store',
        pattern: /^(embedded|etcd):[^\s]{1,500}$/,
        expected: 'embedded:DIR or etcd://HOST:PORT[,HOST:PORT...]',
      }),
    ),
    describe: 'embedded:DIR (one control node) or etcd://HOST:PORT,... (several)',
    fallback: () => undefined,
    fallbackText: 'embedded: in the state directory',
  }),
  listen: option({
    kind: address(),
    describe: 'ADDR:PORT for members; port 0 chooses one',
    fallback: () => '0.0.0.0:7071',
    fallbackText: '0.0.0.0:7071',
  }),
  advertise: option({
    kind: optional(address()),
    describe: 'HOST:PORT at which members reach this control node',
    fallback: () => undefined,
    fallbackText: 'the first address of this machine',
  }),
  name: option({
    kind: OPTIONS.name.kind,
    describe: 'what members call this control node',
    fallback: () => `${OPTIONS.name.fallback({ ramBytes: 0 }).slice(0, 55)}-control`,
    fallbackText: 'the host name with -control',
  }),
  state: option({
    kind: filePath(),
    describe: 'directory of its identity and of the embedded store',
    fallback: controlStateDirectory,
    fallbackText: '/var/lib/memcloud-control for root, else ~/.local/state/memcloud-control',
  }),
  socket: option({
    kind: filePath({ isSocket: true }),
    describe: 'RPC socket, for admins on this machine',
    fallback: controlSocketPath,
    fallbackText: '/run/memcloud-control/control.sock for root, else in $XDG_RUNTIME_DIR',
  }),
  'log-level': option({
    kind: choice(LOG_LEVELS),
    describe: 'what is logged on stderr',
    fallback: () => 'info' as const,
    fallbackText: 'info',
  }),
  'log-file': option({
    kind: optional(filePath()),
    describe: 'file for the log, instead of stderr; it and one older part stay below 8 MiB',
    fallback: () => undefined,
    fallbackText: 'none',
  }),
} as const;

/** The key of an option. */
export type ControlOptionKey = keyof typeof CONTROL_OPTIONS;

/** Every {@link ControlOptionKey}, in the order of the help. */
export const CONTROL_OPTION_KEYS = Object.keys(CONTROL_OPTIONS) as ControlOptionKey[];

/** A value for each option. */
export type ControlOptionValues = {
  readonly [K in ControlOptionKey]: ReturnType<(typeof CONTROL_OPTIONS)[K]['fallback']>;
};

/** The environment variable of an option: `MEMCLOUD_CONTROL_LOG_LEVEL`. */
export function controlVariableOf(key: ControlOptionKey): string {
  return `MEMCLOUD_CONTROL_${key.replaceAll('-', '_').toUpperCase()}`;
}

/**
 * Works the options out.
 *
 * @param flags - what flags said, by key; undefined for those that were not given
 * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_ADDRESS`; the message has a line for each thing that is wrong
 */
export function resolveControlOptions(
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
): ControlOptionValues {
  const problems: MemcloudError[] = [];
  const valueOf = (key: ControlOptionKey): unknown => {
    const { kind, fallback } = CONTROL_OPTIONS[key];
    const variable = controlVariableOf(key);
    const flag = flags[key];
    // A variable that is set to nothing is not set, as with memnode.
    const written = flag ?? (env[variable] === '' ? undefined : env[variable]);
    if (written === undefined) return fallback();
    try {
      const source = flag === undefined ? 'env' : 'flag';
      const raw = typeof written === 'string' ? kind.fromText(written) : written;
      return kind.check(raw, { ramBytes: 0, source });
    } catch (thrown) {
      const { code, message } = asMemcloudError(thrown);
      const place = flag === undefined ? variable : `--${key}`;
      problems.push(new MemcloudError(code, `${place}: ${message}`, { cause: thrown }));
      return undefined;
    }
  };
  const values = Object.fromEntries(CONTROL_OPTION_KEYS.map((key) => [key, valueOf(key)]));
  const [first] = problems;
  if (first === undefined) return values as ControlOptionValues;
  throw new MemcloudError(first.code, problems.map(({ message }) => message).join('\n'));
}
