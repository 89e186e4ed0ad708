/** The options of memnode as entries of a reference: those of the machine, and those of one start. */
import { EARLIER_NAMES, PORT_DESCRIPTION } from '../../common/config/earlier-names.ts';
import { OPTION_KEYS, optionOf } from '../../common/config/options.ts';
import type { OptionEntry } from './recorder.ts';

function ofOneStart(
  name: string,
  type: string,
  describe: string,
  fallback = '',
  aliases: readonly string[] = [],
): OptionEntry {
  return {
    name,
    aliases,
    describe,
    type,
    choices: [],
    fallback,
    isRequired: false,
    isList: false,
  };
}

/** The options that are of one start (daemon/config.ts); a test holds them equal to `memnode --help`. */
const START_OPTIONS: readonly OptionEntry[] = [
  ofOneStart('port', 'number', PORT_DESCRIPTION, '', ['p']),
  ofOneStart(
    'config',
    'string',
    'configuration file, or folder with config.toml and config.d, to read instead',
    '/etc/memcloud, then ~/.config/memcloud unless root',
  ),
  ofOneStart(
    'export',
    'string',
    'NAME=SIZE: serve a new volume on the NBD socket passed by LISTEN_FDS',
  ),
  ofOneStart(
    'replace',
    'boolean',
    'take the place of the memnode that runs; volumes, devices and clients go on',
  ),
  ofOneStart(
    'force',
    'boolean',
    'with --replace: also if RAM that it lends is wiped or TLS clients are cut',
  ),
  ofOneStart('json', 'boolean', 'print the ready line as JSON'),
];

/** Every option of memnode that `memnode --help` shows. */
export function daemonOptions(): OptionEntry[] {
  const machine = OPTION_KEYS.filter((key) => optionOf(key).hasFlag && !optionOf(key).isHidden);
  const entries = machine.map((key): OptionEntry => {
    const { kind, describe, fallbackText } = optionOf(key);
    return {
      name: key,
      aliases: EARLIER_NAMES[key] ?? [],
      describe,
      type: kind.flag === 'switch' ? 'boolean' : 'string',
      choices: kind.name.includes(', ') ? kind.name.split(', ') : [],
      fallback: fallbackText,
      isRequired: false,
      isList: kind.flag === 'list',
    };
  });
  return [...entries, ...START_OPTIONS];
}
