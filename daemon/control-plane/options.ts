/** The command line of a control node, over `MEMCLOUD_CONTROL_*` variables (common/config/control-options.ts). */
import path from 'node:path';
import yargs, { type Argv } from 'yargs';
import {
  CONTROL_OPTIONS,
  CONTROL_OPTION_KEYS,
  controlVariableOf,
  resolveControlOptions,
  type ControlOptionKey,
} from '../../common/config/control-options.ts';
import { MemcloudError } from '../../common/errors.ts';
import type { LogLevel } from '../../common/log.ts';
import { parseAddress } from '../../common/units.ts';
import { VERSION } from '../../common/version.ts';

/** How a control node is to run. */
export interface ControlConfig {
  /** What it calls itself. */
  readonly name: string;
  /** `embedded:DIR` or `etcd://HOST:PORT,...`. */
  readonly store: string;
  /** Where members reach it. */
  readonly listen: { readonly host: string; readonly port: number };
  /** The same as others are told, `HOST:PORT`; undefined: an address of this machine. */
  readonly advertise: string | undefined;
  /** Where its identity is kept. */
  readonly stateDirectory: string;
  /** The RPC socket. */
  readonly socketPath: string;
  readonly logLevel: LogLevel;
  /** Where; undefined: stderr. */
  readonly logFile: string | undefined;
  /** Print the ready line as JSON. */
  readonly json: boolean;
}

const USAGE = `$0 [OPTION]...

A control node: says who may borrow and lend managed memory, places it and keeps the account of it. Runs in
the foreground; prints one line on stdout when it is ready, logs JSON lines on stderr.`;

function addOption(parser: Argv, key: ControlOptionKey): Argv {
  const { describe, fallbackText } = CONTROL_OPTIONS[key];
  return parser.option(key, { type: 'string', describe, defaultDescription: fallbackText });
}

function parserFor(args: readonly string[]) {
  return CONTROL_OPTION_KEYS.reduce(addOption, yargs([...args]))
    .scriptName('memcloud control-plane')
    .usage(USAGE)
    .option('json', { type: 'boolean', default: false, describe: 'print the ready line as JSON' })
    .strict()
    .check((flags) => {
      for (const [name, value] of Object.entries(flags)) {
        if (!Array.isArray(value) || name === '_') continue;
        throw new MemcloudError('ERR_USAGE', `--${name} was given ${value.length} times`);
      }
      return true;
    })
    .locale('en')
    .parserConfiguration({ 'duplicate-arguments-array': true })
    .version(VERSION)
    .alias('help', 'h')
    .epilogue(`Each option can also be set by the environment, as ${controlVariableOf('store')}.`)
    .wrap(Math.min(100, process.stdout.columns || 100))
    .exitProcess(false)
    .fail((message, error) => {
      throw (
        error ?? new MemcloudError('ERR_USAGE', `${message}; see memcloud control-plane --help`)
      );
    });
}

/**
 * Reads command line and environment.
 *
 * @returns undefined when the arguments asked for help or the version, which has been printed then
 * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_ADDRESS`; a line for each thing that is wrong
 */
export async function readControlConfig(
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<ControlConfig | undefined> {
  const flags = await parserFor(args).parseAsync();
  if (flags['help'] === true || flags['version'] === true) return undefined;
  const values = resolveControlOptions(flags, env);
  return {
    name: values.name,
    store: values.store ?? `embedded:${path.join(values.state, 'store')}`,
    listen: parseAddress(values.listen),
    advertise: values.advertise,
    stateDirectory: values.state,
    socketPath: values.socket,
    logLevel: values['log-level'],
    logFile: values['log-file'],
    json: flags.json,
  };
}
