/**
 * How a daemon is to run: the command line of `memnode` over the environment over the configuration
 * files, checked. Everything has a safe default. The options of the machine are the rows of
 * `common/config/options.ts`; what is of one start only is added here.
 */
import os from 'node:os';
import path from 'node:path';
import yargs, { type Argv } from 'yargs';
import { EARLIER_NAMES, PORT_DESCRIPTION, listenAtPort } from '../common/config/earlier-names.ts';
import {
  NAME_PATTERN,
  OPTION_KEYS,
  isOptionKey,
  optionOf,
  variableOf,
  type OptionKey,
} from '../common/config/options.ts';
import { refuseProblems, resolveConfig, type ResolvedConfig } from '../common/config/resolve.ts';
import { MemcloudError } from '../common/errors.ts';
import type { LogLevel } from '../common/log.ts';
import { parseListenRange, type ListenRange } from '../common/listen-range.ts';
import { parseSizeExpression } from '../common/size-expression.ts';
import { roundUpToPages } from '../common/units.ts';
import { VERSION } from '../common/version.ts';

/** The options of a daemon. */
export interface DaemonConfig {
  /** Where identity and trust are kept. */
  readonly stateDirectory: string;
  /** The RPC socket. */
  readonly socketPath: string;
  /** Whose members may use the RPC socket; empty for no group. */
  readonly rpcGroup: string;
  /** Loopback address of RPC with a token, `HOST:PORT`; undefined for none. */
  readonly rpcTcp: string | undefined;
  /** Where it takes peers. */
  readonly listen: ListenRange;
  /** Who may read an object when its writer does not say. */
  readonly objectReaders: 'trusted' | 'private';
  /** Bytes that it lends at most. */
  readonly offerBytes: number;
  /** What a peer may use of that unless somebody decided otherwise, bytes; undefined: all. */
  readonly peerAllowedBytes: number | undefined;
  /** What it calls itself. */
  readonly name: string;
  /** Names the machine; undefined: the kernel that runs tells. */
  readonly host: string | undefined;
  /** Its wider failure domain; empty for none. */
  readonly zone: string;
  /** RAM that stays available on this machine, bytes. */
  readonly reserveBytes: number;
  /** How long holders have in an emergency to give leases back, milliseconds. */
  readonly recallGraceMs: number;
  /** Peers to dial, `HOST:PORT`. */
  readonly connect: readonly string[];
  /** Announce this node and find others by mDNS. */
  readonly mdns: boolean;
  /** The interfaces of mDNS; empty for all that make sense. */
  readonly mdnsInterfaces: readonly string[];
  /** Names to find peers by. */
  readonly dns: readonly string[];
  /** Tell trusted peers of each other. */
  readonly peerExchange: boolean;
  /** Control nodes, `HOST:PORT`; empty: not managed. */
  readonly controlPlane: readonly string[];
  /** Lend to clients of the control plane only. */
  readonly managedOnly: boolean;
  /** Trust a key that was never seen without asking. */
  readonly autoTrust: boolean;
  /** Keys that are trusted when they are first seen, as people name them. */
  readonly trustFingerprints: readonly string[];
  /** Deny what a trusted peer trusts no more. */
  readonly obeyRevocations: boolean;
  /** Take data connections of direct swap without TLS, not only over WireGuard. */
  readonly allowPlain: boolean;
  /** Where lent pages lie; the provider chooses without. */
  readonly memoryDirectory: string | undefined;
  /** Serve one new volume on the socket that the service manager passed (LISTEN_FDS). */
  readonly exportVolume: { readonly name: string; readonly sizeBytes: number } | undefined;
  /** `auto`: protect the process as far as its rights go (common/kit.ts). */
  readonly kit: 'auto' | 'off';
  /** Priority of SCHED_FIFO, 1 to 99; 0 leaves the ordinary policy. */
  readonly realtimePriority: number;
  /** How long providers keep its pages after it fell silent, milliseconds. */
  readonly leaseTtlMs: number;
  /** Silence, requests waiting, after which a peer is given up, milliseconds. */
  readonly peerDeadMs: number;
  /** What is logged. */
  readonly logLevel: LogLevel;
  /** Where; undefined: stderr. */
  readonly logFile: string | undefined;
  /** Take the place of the daemon that runs, with everything that it has. */
  readonly replace: boolean;
  /** With `replace`: also if something is lost by it. */
  readonly force: boolean;
  /** Print the ready line as JSON. */
  readonly json: boolean;
  /** All of it as people wrote it, for `config show` and for a reload. */
  readonly written: WrittenConfig;
}

/** What people wrote, and the way to read it again. */
export interface WrittenConfig {
  /** `--config` or `MEMCLOUD_CONFIG`. */
  readonly configPath: string | undefined;
  /** What was read at the start. */
  readonly resolved: ResolvedConfig;
  /** Reads the files again, under the same flags and environment. */
  readonly reread: () => ResolvedConfig;
}

function parseExport(text: string): { name: string; sizeBytes: number } {
  const [name = '', size = ''] = text.split('=');
  const sizeBytes = roundUpToPages(parseSizeExpression(size, os.totalmem()));
  if (!NAME_PATTERN.test(name) || sizeBytes === 0) {
    throw new MemcloudError('ERR_USAGE', `--export: expected NAME=SIZE, got "${text}"`);
  }
  return { name, sizeBytes };
}

/** Adds the flag of an option. It has no default here: only what was written counts as written. */
function addOption(parser: Argv, key: OptionKey): Argv {
  const { kind, describe, fallbackText, hasFlag, isHidden } = optionOf(key);
  if (!hasFlag) return parser;
  const words = kind.name.includes(',') ? ` (${kind.name})` : '';
  return parser.option(key, {
    describe: `${describe}${words}`,
    defaultDescription: fallbackText,
    hidden: isHidden,
    alias: [...(EARLIER_NAMES[key] ?? [])],
    ...(kind.flag === 'switch' ? { type: 'boolean' } : { type: 'string' }),
    ...(kind.flag === 'list' ? { array: true, nargs: 1 } : {}),
  });
}

/** True for an option that may be repeated. */
function isListOption(name: string): boolean {
  // yargs has `--a-b` also as `aB`.
  const key = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return isOptionKey(key) && optionOf(key).kind.flag === 'list';
}

const USAGE = `$0 [OPTION]...

Lends this machine’s idle RAM to trusted peers and borrows theirs. Runs in the foreground; prints
one line on stdout when it is ready, logs JSON lines on stderr.`;

const EPILOGUE = `Each option can also be set in /etc/memcloud/config.toml, as KEY = VALUE, and by the
environment, as ${variableOf('log-level')}. Sizes: 512M, 50%, min(ram/4, 8GiB). SIGHUP and
"memcloud config reload" read the files again.`;

/** The options that are of one start; the types of the flags follow from them. */
function parserFor(args: readonly string[]) {
  return OPTION_KEYS.reduce(addOption, yargs([...args]))
    .scriptName('memnode')
    .usage(USAGE)
    .option('port', { alias: 'p', type: 'number', describe: PORT_DESCRIPTION })
    .option('config', {
      type: 'string',
      describe: 'configuration file, or folder with config.toml and config.d, to read instead',
      defaultDescription: '/etc/memcloud, then ~/.config/memcloud unless root',
    })
    .option('export', {
      type: 'string',
      describe: 'NAME=SIZE: serve a new volume on the NBD socket passed by LISTEN_FDS',
    })
    .option('replace', {
      type: 'boolean',
      default: false,
      describe: 'take the place of the memnode that runs; volumes, devices and clients go on',
    })
    .option('force', {
      type: 'boolean',
      default: false,
      describe: 'with --replace: also if RAM that it lends is wiped or TLS clients are cut',
    })
    .option('json', { type: 'boolean', default: false, describe: 'print the ready line as JSON' })
    .strict()
    .check((flags) => {
      for (const [name, value] of Object.entries(flags)) {
        if (!Array.isArray(value) || name === '_' || isListOption(name)) continue;
        throw new MemcloudError('ERR_USAGE', `--${name} was given ${value.length} times`);
      }
      return true;
    })
    .locale('en')
    .parserConfiguration({ 'duplicate-arguments-array': true })
    .showHidden('show-hidden', 'also show options for tests and tuning')
    .version(VERSION)
    .alias('help', 'h')
    .epilogue(EPILOGUE)
    .wrap(Math.min(100, process.stdout.columns || 100))
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new MemcloudError('ERR_USAGE', `${message}; see memnode --help`);
    });
}

/**
 * Reads command line, environment and files.
 *
 * @returns the configuration; undefined when the arguments asked for help or the version, which has
 *   been printed then
 * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_SIZE`, `ERR_USAGE_ADDRESS`, `ERR_CONFIG`; the message
 *   has a line for each thing that is wrong
 */
export async function readConfig(
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<DaemonConfig | undefined> {
  const given = await parserFor(args).parseAsync();
  if (given['help'] === true || given['version'] === true) return undefined;
  const { port, listen } = given;
  const flags = port === undefined ? given : { ...given, listen: listenAtPort(port, listen) };
  const chosen = flags.config ?? (env['MEMCLOUD_CONFIG'] || undefined);
  const configPath = chosen === undefined ? undefined : path.resolve(chosen);
  const reread = (): ResolvedConfig => resolveConfig({ flags, env, configPath });
  const resolved = reread();
  refuseProblems(resolved.problems);
  const { values } = resolved;
  return {
    stateDirectory: values.state,
    socketPath: values.socket,
    rpcGroup: values['rpc-group'],
    rpcTcp: values['rpc-tcp'],
    listen: parseListenRange(values.listen),
    objectReaders: values['object-readers'],
    offerBytes: values.offer,
    peerAllowedBytes: values['peer-allowed'],
    name: values.name,
    host: values.host,
    zone: values.zone ?? '',
    reserveBytes: values.reserve,
    recallGraceMs: Math.round(values['recall-grace'] * 1000),
    connect: values.connect,
    mdns: values.mdns,
    mdnsInterfaces: values['mdns-interfaces'],
    dns: values.dns,
    peerExchange: values['peer-exchange'],
    controlPlane: values['control-plane'],
    managedOnly: values['managed-only'],
    autoTrust: values['auto-trust'],
    trustFingerprints: values['trust-fingerprint'],
    obeyRevocations: values['obey-revocations'],
    allowPlain: values['allow-plain'],
    memoryDirectory: values['memory-dir'],
    exportVolume: flags.export === undefined ? undefined : parseExport(flags.export),
    kit: values.kit,
    realtimePriority: values.realtime,
    leaseTtlMs: Math.round(values['lease-ttl'] * 1000),
    peerDeadMs: values['peer-dead-ms'],
    logLevel: values['log-level'],
    logFile: values['log-file'],
    replace: flags.replace,
    force: flags.force,
    json: flags.json,
    written: { configPath, resolved, reread },
  };
}
