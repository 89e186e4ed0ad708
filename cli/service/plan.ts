/**
 * What `memcloud service` does to a machine, as data: the files that it writes and removes and the
 * commands that it runs, in order. `--print-only` prints the same plan that is carried out else.
 */
import path from 'node:path';
import { CONFIG_FOLDER, SETTINGS_FILE } from './settings.ts';
import {
  ALL_UNITS,
  DAEMON_UNIT,
  SLEEP_UNIT,
  SLICE_UNIT,
  SWAP_UNIT,
  renderUnit,
  type UnitValues,
} from './units.ts';

/** Where administrators keep units: systemd.unit(5). */
export const UNIT_FOLDER = '/etc/systemd/system';

/** Where identity and trust are kept, and files of the administrator. */
const KEPT_FOLDERS = ['/var/lib/memcloud', CONFIG_FOLDER];

/** A step; a plan is a list of them. */
export type Step =
  | { readonly step: 'write'; readonly path: string; readonly content: string }
  /** As `write`, but a file that is there stays. */
  | { readonly step: 'create'; readonly path: string; readonly content: string }
  /** A file or a folder with what is in it; it need not be there. */
  | { readonly step: 'remove'; readonly path: string }
  | { readonly step: 'run'; readonly words: readonly string[] };

/** Where to install to. */
export interface InstallTarget {
  /** Another root than `/`, where nothing is started; '' for this machine. */
  readonly prefix: string;
  /** The texts of `systemd/`: name to content. */
  readonly templates: Readonly<Record<string, string>>;
  /** Names of the units that are there. */
  readonly present: readonly string[];
}

function run(...words: string[]): Step {
  return { step: 'run', words };
}

function systemctl(prefix: string, ...words: string[]): Step {
  return run('systemctl', ...(prefix === '' ? [] : [`--root=${prefix}`]), ...words);
}

/** What is to be there. */
export interface InstallWish {
  /** Where the programs lie. */
  readonly values: UnitValues;
  /** `on` writes the swap units too, `off` takes them away, `keep` leaves what is there. */
  readonly swap: 'on' | 'off' | 'keep';
  /** A configuration for people to edit, where there is none. */
  readonly example: string;
  /** Settings that were given; undefined for none. */
  readonly settings: string | undefined;
}

/**
 * The plan of an installation. A running daemon reads its settings again; its unit is not restarted.
 *
 * @throws MemcloudError `ERR_USAGE` as {@link renderUnit}
 */
export function installPlan(target: InstallTarget, wish: InstallWish): Step[] {
  const { prefix, templates, present } = target;
  const { values, swap, settings } = wish;
  const swapUnits = swap === 'on' ? [SWAP_UNIT, SLEEP_UNIT] : [];
  const enabled = [DAEMON_UNIT, ...swapUnits];
  const isHere = prefix === '';
  const unwanted = [SLEEP_UNIT, SWAP_UNIT].filter((name) => present.includes(name));
  const config = path.join(prefix, CONFIG_FOLDER);
  const units = [SLICE_UNIT, DAEMON_UNIT, ...swapUnits].map((name): Step => {
    const content = renderUnit(templates[name] ?? '', values);
    return { step: 'write', path: path.join(prefix, UNIT_FOLDER, name), content };
  });
  const settingsFile = path.join(config, SETTINGS_FILE);
  return [
    ...(swap === 'off' && unwanted.length > 0 ? removalOf(unwanted, prefix) : []),
    ...units,
    { step: 'create', path: path.join(config, 'config.toml'), content: wish.example },
    ...(settings === undefined
      ? []
      : [{ step: 'write', path: settingsFile, content: settings } as const]),
    ...(isHere ? [run('systemctl', 'daemon-reload')] : []),
    systemctl(prefix, 'enable', ...enabled),
    // Starts it, or lets a running one read its settings again.
    ...(isHere ? [run('systemctl', 'reload-or-restart', DAEMON_UNIT)] : []),
    // It waits for providers; whoever installs need not.
    ...(isHere && swap === 'on' ? [run('systemctl', '--no-block', 'start', SWAP_UNIT)] : []),
  ];
}

/** Disables before the files go, since systemctl reads in them what to disable. */
function removalOf(units: readonly string[], prefix: string): Step[] {
  const now = prefix === '' ? ['--now'] : [];
  const folder = path.join(prefix, UNIT_FOLDER);
  return [
    systemctl(prefix, 'disable', ...now, ...units),
    ...units.map((name): Step => ({ step: 'remove', path: path.join(folder, name) })),
  ];
}

/**
 * The plan of a removal. The swap has been taken off before.
 *
 * @param present - names of the units that are there
 * @param purge - also what the administrator and the daemon wrote: drop-ins, settings, identity
 */
export function uninstallPlan(prefix: string, present: readonly string[], purge: boolean): Step[] {
  const units = ALL_UNITS.filter((name) => present.includes(name));
  const services = units.filter((name) => name !== SLICE_UNIT);
  const folder = path.join(prefix, UNIT_FOLDER);
  const dropIns = ALL_UNITS.map((name) => path.join(folder, `${name}.d`));
  const kept = KEPT_FOLDERS.map((place) => path.join(prefix, place));
  const removed = purge ? [...dropIns, ...kept] : [];
  return [
    ...(services.length > 0 ? removalOf(services, prefix) : []),
    { step: 'remove', path: path.join(folder, SLICE_UNIT) },
    { step: 'remove', path: path.join(prefix, CONFIG_FOLDER, SETTINGS_FILE) },
    ...removed.map((place): Step => ({ step: 'remove', path: place })),
    ...(prefix === '' ? [run('systemctl', 'daemon-reload')] : []),
  ];
}

/** A plan as a shell script: it can be read, and it can be run. */
export function planScript(steps: readonly Step[]): string {
  return steps
    .map((step) => {
      switch (step.step) {
        case 'write':
        case 'create': {
          const place = shellWord(step.path);
          const unless = step.step === 'create' ? `test -e ${place} || ` : '';
          return (
            `mkdir -p ${shellWord(path.dirname(step.path))}\n` +
            `${unless}cat >${place} <<'END_OF_FILE'\n${step.content}END_OF_FILE`
          );
        }
        case 'remove':
          return `rm -rf ${shellWord(step.path)}`;
        case 'run':
          return step.words.map(shellWord).join(' ');
      }
    })
    .join('\n');
}

function shellWord(word: string): string {
  return /^[\w@.,:/=+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
