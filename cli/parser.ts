/** The parser of the command line. It takes a while to load, so what can do without it does (`main.ts`). */
import yargs, { type Argv } from 'yargs';
import { MemcloudError } from '../common/errors.ts';
import { VERSION } from '../common/version.ts';
import { hideDashes, showDashes, showDashesIn } from './dash.ts';
import { GLOBAL_OPTIONS } from './global-options.ts';
import { commandWord } from './modules.ts';
import type { GlobalFlags } from './output.ts';

const EPILOGUE = `Exit codes: 0 ok, 1 failure, 2 usage, 3 daemon not running, 4 consent or
authentication needed, 5 try again later, 6 not found, 7 quota or capacity, 8 data lost,
9 doctor found problems. "memcloud run" ends with the exit code of its command.`;

/** Options that may be given more than once. */
const LIST_OPTIONS: readonly string[] = [
  ...['_', '--', 'provider', 'providers', 'files', 'connect', 'address'],
  ...['patterns', 'keys', 'ids', 'share', 'lease', 'leases'],
];

function refuseRepeated(flags: Readonly<Record<string, unknown>>): true {
  for (const [name, value] of Object.entries(flags)) {
    if (!Array.isArray(value) || LIST_OPTIONS.includes(name)) continue;
    throw new MemcloudError('ERR_USAGE', `--${name} was given ${value.length} times`);
  }
  return true;
}

/** A parser without commands. */
export function makeParser(args: readonly string[], socketPath: string): Argv<GlobalFlags> {
  return (
    yargs(hideDashes(args))
      .scriptName('memcloud')
      .usage(
        '$0 [--socket PATH] [--json] COMMAND\n\n' +
          'The RAM of the machines around you, as swap, disks, files and objects.',
      )
      .option('socket', { ...GLOBAL_OPTIONS.socket, default: socketPath })
      .option('json', GLOBAL_OPTIONS.json)
      .parserConfiguration({
        'populate--': true,
        'duplicate-arguments-array': true,
        // A value or a key is text, also when it looks like a number.
        'parse-positional-numbers': false,
      })
      .strict()
      .middleware(showDashes)
      .check(refuseRepeated)
      .locale('en')
      .updateStrings({
        'Not enough non-option arguments: got %s, need at least %s': {
          one: 'an argument is missing: got %s, need %s',
          other: 'arguments are missing: got %s, need %s',
        } as never,
      })
      .recommendCommands()
      .version(VERSION)
      .alias('help', 'h')
      .epilogue(EPILOGUE)
      .wrap(Math.min(100, process.stdout.columns || 100))
      .exitProcess(false)
      // To throw is what keeps yargs from running the command all the same.
      .fail((message, error) => {
        const word = commandWord(args);
        const help = word === undefined ? 'memcloud --help' : `memcloud ${word} --help`;
        const hint = message?.includes('--help') ? '' : `; see ${help}`;
        throw error ?? new MemcloudError('ERR_USAGE', showDashesIn(`${message}${hint}`));
      })
  );
}
