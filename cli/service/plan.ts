/**
 * What `memcloud service` does to a machine, as data: the files that it writes and removes and the
 * commands that it runs, in order. `--print-only` prints the same plan that is carried out else.
 */
import path from 'node:path';
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
const KEPT_FOLDERS = ['/var/lib/memcloud', '/etc/memcloud'];

/** A step; a plan is a list of them. */
export type Step =
  | { readonly step: 'write'; readonly path: string; readonly content: string }
  /** A file or a folder with what is in it; it need not be there. */
  | { readonly step: 'remove'; readonly path: string }
  | { readonly step: 'run'; readonly words: readonly string[] };

/** Where to install to. */
export interface InstallTarget {
  /** Another root than `/`, where nothing is started; '' for this machine. */
  readonly prefix: string;
  /** The texts of `systemd/`: name to content. */
  readonly templates: Readonly<Record<string, string>>;
}

function run(...words: string[]): Step {
  return { step: 'run', words };
}

function systemctl(prefix: string, ...words: string[]): Step {
  return run('systemctl', ...(prefix === '' ? [] : [`--root=${prefix}`]), ...words);
}

/**
 * The plan of an installation.
 *
 * @param swap - `on` writes the swap units too, `off` takes them away, `keep` leaves what is there
 * @param present - names of the units that are there
 * @throws MemcloudError `ERR_USAGE` as {@link renderUnit}
 */
export function installPlan(
  target: InstallTarget,
  values: UnitValues,
  swap: 'on' | 'off' | 'keep',
  present: readonly string[],
): Step[] {
  const { prefix, templates } = target;
  const swapUnits = swap === 'on' ? [SWAP_UNIT, SLEEP_UNIT] : [];
  const written = [SLICE_UNIT, DAEMON_UNIT, ...swapUnits];
  const enabled = [DAEMON_UNIT, ...swapUnits];
  const isHere = prefix === '';
  const unwanted = [SLEEP_UNIT, SWAP_UNIT].filter((name) => present.includes(name));
  return [
    ...(swap === 'off' && unwanted.length > 0 ? removalOf(unwanted, prefix) : []),
    ...written.map((name): Step => {
      const content = renderUnit(templates[name] ?? '', values);
      return { step: 'write', path: path.join(prefix, UNIT_FOLDER, name), content };
    }),
    ...(isHere ? [run('systemctl', 'daemon-reload')] : []),
    systemctl(prefix, 'enable', ...enabled),
    ...(isHere ? [run('systemctl', 'start', DAEMON_UNIT)] : []),
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
          return (
            `mkdir -p ${shellWord(path.dirname(step.path))}\n` +
            `cat >${shellWord(step.path)} <<'END_OF_UNIT'\n${step.content}END_OF_UNIT`
          );
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
