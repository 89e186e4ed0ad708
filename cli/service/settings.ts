/**
 * The settings that `service install` was given, as a file of the configuration. It is a file of its own
 * in `config.d`, so that nothing is written into a file that somebody edits; what is not given again
 * stays as it was given before. Pure.
 */
import { parseStatements } from '../../common/config/toml-statements.ts';
import { MemcloudError } from '../../common/errors.ts';

/** The folder of the machine's configuration: docs/configuration.md. */
export const CONFIG_FOLDER = '/etc/memcloud';
/** The file in it. */
export const SETTINGS_FILE = 'config.d/50-service.toml';

/** Keys of the configuration that `service install` sets; undefined: as before. */
export interface ServiceSettings {
  /** RAM to lend, as written. */
  readonly offer: string | undefined;
  /** `HOST:PORT` of peers. */
  readonly connect: readonly string[] | undefined;
  /** Size of the swap, as written. */
  readonly swapSize: string | undefined;
  /** Where the mount is. */
  readonly mountDirectory: string | undefined;
}

const HEAD = `# Written by "memcloud service install", which changes what it is given the next time. Your own
# settings belong into ../config.toml, or, to count more than these, into a file that sorts after this.
`;

/**
 * The text of the file.
 *
 * @param before - what it has now, '' when it is not there
 * @returns undefined when there is nothing to say
 * @throws MemcloudError `ERR_CONFIG` when the present text is not ours to change
 */
export function settingsText(before: string, settings: ServiceSettings): string | undefined {
  const { statements, problem } = parseStatements(before);
  if (problem !== undefined) {
    const { line, message } = problem;
    const place = `${CONFIG_FOLDER}/${SETTINGS_FILE}:${line}`;
    throw new MemcloudError('ERR_CONFIG', `${place}: ${message}; mend or remove it`);
  }
  const values = new Map(statements.map(({ path, value }) => [path, value]));
  const given = [
    ['offer', settings.offer],
    ['connect', settings.connect],
    ['swap.size', settings.swapSize],
    ['mount.directory', settings.mountDirectory],
  ] as const;
  for (const [key, value] of given) {
    if (value !== undefined) values.set(key, value);
  }
  const lines = (keys: readonly string[]): string =>
    keys
      .filter((key) => values.get(key) !== undefined)
      .map((key) => `${key.split('.').pop()} = ${JSON.stringify(values.get(key))}\n`)
      .join('');
  const parts = [
    lines(['offer', 'connect']),
    section('swap', lines(['swap.size'])),
    section('mount', lines(['mount.directory'])),
  ].filter((part) => part !== '');
  return parts.length === 0 ? undefined : `${HEAD}${parts.join('\n')}`;
}

function section(name: string, text: string): string {
  return text === '' ? '' : `[${name}]\n${text}`;
}
