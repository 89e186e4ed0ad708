/**
 * What `memcloud service` does to a machine, as data: the files that it writes and removes and the
 * commands that it runs, in order. `--print-only` prints the same plan that is carried out else.
 */
import path from 'node:path';
import { shellWord } from '../../common/shell-word.ts';
import { CONFIG_FOLDER, SETTINGS_FILE } from './settings.ts';
import {
  ALL_UNITS,
  CONTROL_UNIT,
  DAEMON_UNIT,
  SLEEP_UNIT,
  MOUNT_DROP_IN,
  MOUNT_UNIT,
  SLICE_UNIT,
  SWAP_UNIT,
  renderUnit,
  type UnitValues,
} from './units.ts';

/** Where administrators keep units: systemd.unit(5). */
export const UNIT_FOLDER = '/etc/systemd/system';

/** Where mount(8) looks for the helper of a type. */
export const MOUNT_HELPER = '/sbin/mount.memcloud';

/** Where identity and trust are kept, and files of the administrator. */
const KEPT_FOLDERS = ['/var/lib/memcloud', CONFIG_FOLDER];
/** The same of a control node, and its store: a link to where systemd keeps what belongs to no lasting user. */
const CONTROL_FOLDERS = ['/var/lib/memcloud-control', '/var/lib/private/memcloud-control'];
/** Options of a control node. */
const CONTROL_FILE = 'control.env';
const CONTROL_EXAMPLE = `# Options of memcloud-control.service, as variables: docs/control-plane.md. It reads them when it starts.
#MEMCLOUD_CONTROL_LISTEN=0.0.0.0:7071
#MEMCLOUD_CONTROL_ADVERTISE=tower.lan:7071
#MEMCLOUD_CONTROL_STORE=etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379
`;

/** A step; a plan is a list of them. */
export type Step =
  | { readonly step: 'write'; readonly path: string; readonly content: string }
  /** As `write`, but a file that is there stays. */
  | { readonly step: 'create'; readonly path: string; readonly content: string }
  /** A file or a folder with what is in it; it need not be there. */
  | { readonly step: 'remove'; readonly path: string }
  /** A symbolic link at `path`, in place of one that is there; a file of others stays. */
  | { readonly step: 'link'; readonly path: string; readonly target: string }
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

/** What is to become of a control node; see {@link InstallWish}. */
export type ControlWish = 'on' | 'only' | 'off' | 'keep';

/** What is to be there. */
export interface InstallWish {
  /** Where the programs lie. */
  readonly values: UnitValues;
  /** `on` writes the swap units too, `off` takes them away, `keep` leaves what is there. */
  readonly swap: 'on' | 'off' | 'keep';
  /** As `swap`, of the mount: its unit, and what memnode's own unit needs for it. */
  readonly mount: 'on' | 'off' | 'keep';
  /** As `swap`, of a control node; `only`: that, and no memnode. */
  readonly control: ControlWish;
  /** The helper of mount(8) in this package; linked into /sbin with the mount. */
  readonly mountHelper: string;
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
  const { prefix, present } = target;
  const { swap, mount, control, settings } = wish;
  if (control === 'only') return controlSteps(target, wish);
  const swapUnits = swap === 'on' ? [SWAP_UNIT, SLEEP_UNIT] : [];
  const mountUnits = mount === 'on' ? [MOUNT_UNIT] : [];
  const enabled = [DAEMON_UNIT, ...swapUnits, ...mountUnits];
  const isHere = prefix === '';
  const unwanted = [
    ...(swap === 'off' ? [SLEEP_UNIT, SWAP_UNIT] : []),
    ...(mount === 'off' ? [MOUNT_UNIT] : []),
    ...(control === 'off' ? [CONTROL_UNIT] : []),
  ].filter((name) => present.includes(name));
  const config = path.join(prefix, CONFIG_FOLDER);
  const dropIns = mount === 'on' ? [MOUNT_DROP_IN] : [];
  const units = [SLICE_UNIT, DAEMON_UNIT, ...dropIns, ...swapUnits, ...mountUnits].map((name) =>
    unitStep(target, wish, name),
  );
  const settingsFile = path.join(config, SETTINGS_FILE);
  return [
    ...(unwanted.length > 0 ? removalOf(unwanted, prefix) : []),
    ...(mount === 'off' ? mountRemains(prefix) : []),
    ...units,
    ...(mount === 'on'
      ? [{ step: 'link', path: path.join(prefix, MOUNT_HELPER), target: wish.mountHelper } as const]
      : []),
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
    ...(isHere && mount === 'on' ? [run('systemctl', '--no-block', 'start', MOUNT_UNIT)] : []),
    ...(control === 'on' ? controlSteps(target, wish) : []),
  ];
}

function unitStep(
  { prefix, templates }: InstallTarget,
  { values }: InstallWish,
  name: string,
): Step {
  const content = renderUnit(templates[name] ?? '', values);
  return { step: 'write', path: path.join(prefix, UNIT_FOLDER, name), content };
}

/** A control node: one that runs goes on as it is. */
function controlSteps(target: InstallTarget, wish: InstallWish): Step[] {
  const { prefix } = target;
  const isHere = prefix === '';
  const options = path.join(prefix, CONFIG_FOLDER, CONTROL_FILE);
  return [
    unitStep(target, wish, CONTROL_UNIT),
    { step: 'create', path: options, content: CONTROL_EXAMPLE },
    ...(isHere ? [run('systemctl', 'daemon-reload')] : []),
    systemctl(prefix, 'enable', CONTROL_UNIT),
    ...(isHere ? [run('systemctl', 'start', CONTROL_UNIT)] : []),
  ];
}

/** What the mount unit leaves when it is gone. */
function mountRemains(prefix: string): Step[] {
  return [path.join(UNIT_FOLDER, MOUNT_DROP_IN), MOUNT_HELPER].map((place): Step => {
    return { step: 'remove', path: path.join(prefix, place) };
  });
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
  const controlFolders = present.includes(CONTROL_UNIT) ? CONTROL_FOLDERS : [];
  const kept = [...KEPT_FOLDERS, ...controlFolders].map((place) => path.join(prefix, place));
  const removed = purge ? [...dropIns, ...kept] : [];
  return [
    ...(services.length > 0 ? removalOf(services, prefix) : []),
    ...mountRemains(prefix),
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
        case 'link':
          return (
            `mkdir -p ${shellWord(path.dirname(step.path))}\n` +
            `ln -sfn ${shellWord(step.target)} ${shellWord(step.path)}`
          );
        case 'remove':
          return `rm -rf ${shellWord(step.path)}`;
        case 'run':
          return step.words.map(shellWord).join(' ');
      }
    })
    .join('\n');
}
