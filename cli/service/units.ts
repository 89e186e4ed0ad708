/**
 * The unit files as they are written to a machine. The text is that of the folder `systemd/`; what
 * changes is where the programs lie. Options are no part of it: they are in the configuration.
 * Nothing here touches the machine.
 */
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';

/** The daemon. */
export const DAEMON_UNIT = 'memnode.service';
/** Its control group. */
export const SLICE_UNIT = 'memcloud.slice';
/** Swap on the pool. */
export const SWAP_UNIT = 'memcloud-swap.service';
/** Swap off before the machine sleeps. */
export const SLEEP_UNIT = 'memcloud-sleep.service';

/** Files on the pool. */
export const MOUNT_UNIT = 'memcloud-mount.service';
/** Lets what memnode mounts be seen by the machine; goes with {@link MOUNT_UNIT}. */
export const MOUNT_DROP_IN = 'memnode.service.d/mount.conf';

/** A control node; it needs none of the others, and none needs it. */
export const CONTROL_UNIT = 'memcloud-control.service';

/** Every unit, in the order in which they are stopped. */
export const ALL_UNITS = [
  ...[SLEEP_UNIT, SWAP_UNIT, MOUNT_UNIT, DAEMON_UNIT, CONTROL_UNIT, SLICE_UNIT],
] as const;

const DAEMON_PROGRAM = '/usr/bin/memnode';
const CLI_PROGRAM = '/usr/bin/memcloud';
const DOCUMENT_URL = /file:\/\/\/usr\/share\/doc\/memcloud\/(\S+)/;

/** What the units of one machine have of their own. */
export interface UnitValues {
  /** Words that start the daemon: program, then arguments. */
  readonly daemon: readonly string[];
  /** Words that start the command line. */
  readonly cli: readonly string[];
  /** Absolute path of the package, in which the documents lie. */
  readonly root: string;
}

/**
 * A word of a command line as systemd reads it back: systemd.service(5) "Command lines",
 * systemd.unit(5) "Specifiers".
 *
 * @throws MemcloudError `ERR_USAGE` for a word that no unit file can hold
 */
export function unitWord(word: string): string {
  if (/\p{Cc}/u.test(word)) {
    throw new MemcloudError(
      'ERR_USAGE',
      `a unit file cannot hold the word ${JSON.stringify(word)}`,
    );
  }
  const escaped = word.replaceAll('%', '%%').replaceAll('$', '$$$$');
  if (/^[\w@.,:/=+%$-]+$/.test(word)) return escaped;
  return `"${escaped.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/**
 * The program of a command line: as {@link unitWord}, but systemd takes `$` there as it is, and no
 * quotes at all.
 */
function unitProgram(word: string): string {
  if (/["'\\]/.test(word)) {
    throw new MemcloudError('ERR_USAGE', `systemd starts no program in ${word}: quotes in a path`);
  }
  return unitWord(word).replaceAll('$$', '$');
}

/** A path as an URL that a unit file can hold. */
function unitUrl(place: string): string {
  const segments = place.split('/').map(encodeURIComponent);
  return `file://${segments.join('/')}`.replaceAll("'", '%27').replaceAll('%', '%%');
}

/**
 * The text of a unit for one machine.
 *
 * @param text - of the file in `systemd/`
 * @throws MemcloudError `ERR_USAGE` for a path or an option that no unit file can hold
 */
export function renderUnit(text: string, values: UnitValues): string {
  const commands: [string, string][] = [
    [DAEMON_PROGRAM, commandLine(values.daemon)],
    [CLI_PROGRAM, commandLine(values.cli)],
  ];
  return text
    .split('\n')
    .map((line) => {
      for (const [program, words] of commands) {
        const match = new RegExp(`^(Exec\\w+=[+-]*)${program}(?= |$)`).exec(line);
        if (match === null) continue;
        return `${match[1] ?? ''}${words}${line.slice(match[0].length)}`;
      }
      return line.replace(DOCUMENT_URL, (_url, name: string) =>
        unitUrl(path.join(values.root, name)),
      );
    })
    .join('\n');
}

function commandLine(words: readonly string[]): string {
  const [program = '', ...others] = words;
  return [unitProgram(program), ...others.map(unitWord)].join(' ');
}
