/** `memcloud service`: the daemon, and swap on the pool, started with the machine by systemd. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MemcloudError } from '../../common/errors.ts';
import { hasTool } from '../../common/tool.ts';
import { parseAddress } from '../../common/units.ts';
import { parseSizeExpression } from '../../common/size-expression.ts';
import { command, group } from '../command.ts';
import { note, printData, type GlobalFlags } from '../output.ts';
import {
  carryOut,
  isReplaced,
  machineStops,
  settledState,
  systemdRuns,
  unitState,
} from '../service/carry-out.ts';
import {
  UNIT_FOLDER,
  installPlan,
  planScript,
  uninstallPlan,
  type ControlWish,
  type Step,
} from '../service/plan.ts';
import { CONFIG_FOLDER, SETTINGS_FILE, settingsText } from '../service/settings.ts';
import { keepSwapOn, machineHands, takeSwapOff, type SwapHands } from '../service/swap-keeper.ts';
import { mountCommands } from '../service/mount-commands.ts';
import {
  ALL_UNITS,
  CONTROL_UNIT,
  DAEMON_UNIT,
  MOUNT_DROP_IN,
  MOUNT_UNIT,
  SWAP_UNIT,
} from '../service/units.ts';
import { requireRoot } from '../system/root.ts';
import { networkSwaps } from '../system/network-swap.ts';
import { listSwaps } from '../system/swap-device.ts';
import { requireRoomForSwapOff } from '../system/swap-preflight.ts';
import { SystemFiles } from '../system/system-files.ts';

/** The package: this file is `dist/cli/commands/service.js` in it. */
const PACKAGE_ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CLI_FILE = fileURLToPath(new URL('../main.js', import.meta.url));
const DAEMON_FILE = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));

/** How long `install` waits to say whether swap or mount are there; they go on without us. */
const SETTLE_MS = 20_000;
/** The first try of a boot lasts so long; then systemd starts it anew every minute. */
const SWAP_ON_DEADLINE_S = 60;
const SWAP_OFF_DEADLINE_S = 240;
const SWAP_OFF_PATIENCE_S = 30;

interface TargetFlags {
  prefix: string;
  'print-only': boolean;
}

interface InstallFlags extends TargetFlags {
  swap: string | undefined;
  mount: string | undefined;
  'control-plane': string | undefined;
  offer: string | undefined;
  connect: string[];
}

/** What `install` prints. */
interface Installed {
  /** Files that were written or removed. */
  readonly changed: readonly string[];
  /** Units that are there, and the state of each; empty for another root. */
  readonly units: Readonly<Record<string, string>>;
}

function templates(mount: 'on' | 'off' | 'keep'): Record<string, string> {
  const folder = path.join(PACKAGE_ROOT, 'systemd');
  const names = [...ALL_UNITS, ...(mount === 'on' ? [MOUNT_DROP_IN] : [])];
  return Object.fromEntries(
    names.map((name) => [name, fs.readFileSync(path.join(folder, name), 'utf8')]),
  );
}

function presentUnits(prefix: string): string[] {
  const folder = path.join(prefix, UNIT_FOLDER);
  return ALL_UNITS.filter((name) => fs.existsSync(path.join(folder, name)));
}

function checkMachine(what: string, { prefix }: TargetFlags): void {
  if (prefix === '' && !systemdRuns()) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `${what}: systemd does not run this machine; start memnode yourself, or use --prefix DIR`,
    );
  }
  if (!hasTool('systemctl')) {
    throw new MemcloudError('ERR_UNSUPPORTED', `${what}: systemctl is not installed`);
  }
  if (prefix === '') requireRoot(what);
}

function absolutePrefix({ prefix }: TargetFlags): string {
  return prefix === '' || path.resolve(prefix) === '/' ? '' : path.resolve(prefix);
}

/** Folders that a reboot empties, and that units with PrivateTmp do not see. */
const FLEETING = /^\/(tmp|var\/tmp|dev\/shm|run)\//;

function refuseFleeting(): void {
  for (const file of [process.execPath, DAEMON_FILE]) {
    if (!FLEETING.test(file)) continue;
    const text = `service install: a reboot removes ${file}; put MemCloud elsewhere first`;
    throw new MemcloudError('ERR_UNSUPPORTED', text);
  }
}

/** Whoever may write the programs that root starts is root: said, not refused. */
function warnOfOwners(): void {
  for (const file of [process.execPath, DAEMON_FILE]) {
    const { uid, mode } = fs.statSync(file);
    if (uid === 0 && (mode & 0o022) === 0) continue;
    note(`memcloud: note: root will run ${file}, which others than root may change`);
  }
}

/** What `--swap` asks for. */
function swapWish(swap: string | undefined): 'on' | 'off' | 'keep' {
  if (swap === undefined) return 'keep';
  return parseSizeExpression(swap, os.totalmem()) === 0 ? 'off' : 'on';
}

/** What `--mount` asks for. @throws MemcloudError `ERR_USAGE` */
function mountWish(mount: string | undefined): 'on' | 'off' | 'keep' {
  if (mount === undefined) return 'keep';
  if (mount === 'off') return 'off';
  if (path.isAbsolute(mount)) return 'on';
  throw new MemcloudError('ERR_USAGE', `--mount: expected an absolute path or off, got "${mount}"`);
}

/** What `--control-plane` asks for. @throws MemcloudError `ERR_USAGE` */
function controlWish(flags: InstallFlags): ControlWish {
  const { 'control-plane': control, swap, mount, offer, connect } = flags;
  if (control === undefined || control === 'off') return control ?? 'keep';
  if (control === '' || control === 'on') return 'on';
  if (control !== 'only') {
    const text = `--control-plane: expected on, only or off, got "${control}"`;
    throw new MemcloudError('ERR_USAGE', text);
  }
  const isBare = [swap, mount, offer].every((each) => each === undefined) && connect.length === 0;
  if (isBare) return 'only';
  throw new MemcloudError(
    'ERR_USAGE',
    '--control-plane only installs no memnode: --swap, --mount, --offer and --connect are for one',
  );
}

/** A control node is a user of its own, who may read what everybody may. */
function refusePrivate(): void {
  for (const file of [process.execPath, CLI_FILE]) {
    const shut = closedTo(fs.realpathSync(file));
    if (shut === undefined) continue;
    const text =
      `service install --control-plane: ${shut} is closed to the user that a control node runs as; ` +
      'put MemCloud where everybody may read it';
    throw new MemcloudError('ERR_UNSUPPORTED', text);
  }
}

/** The file, or the first folder on the way to it, that others than its owner may not read. */
function closedTo(file: string): string | undefined {
  const folders: string[] = [];
  for (let place = path.dirname(file); place !== '/'; place = path.dirname(place)) {
    folders.unshift(place);
  }
  const shut = folders.find((folder) => (fs.statSync(folder).mode & 0o001) === 0);
  return shut ?? ((fs.statSync(file).mode & 0o004) === 0 ? file : undefined);
}

function planOfInstall(flags: InstallFlags, prefix: string): Step[] {
  const { offer, connect } = flags;
  const control = controlWish(flags);
  if (offer !== undefined) parseSizeExpression(offer, os.totalmem());
  for (const address of connect) parseAddress(address);
  const swap = swapWish(flags.swap);
  const mount = mountWish(flags.mount);
  const settingsFile = path.join(prefix, CONFIG_FOLDER, SETTINGS_FILE);
  const before = fs.existsSync(settingsFile) ? fs.readFileSync(settingsFile, 'utf8') : '';
  const settings = settingsText(before, {
    offer,
    connect: connect.length === 0 ? undefined : connect,
    swapSize: swap === 'on' ? flags.swap : undefined,
    mountDirectory: mount === 'on' ? flags.mount : undefined,
  });
  const values = {
    daemon: [process.execPath, DAEMON_FILE],
    cli: [process.execPath, CLI_FILE],
    root: PACKAGE_ROOT,
  };
  const example = fs.readFileSync(path.join(PACKAGE_ROOT, 'docs/examples/config.toml'), 'utf8');
  const target = { prefix, templates: templates(mount), present: presentUnits(prefix) };
  const mountHelper = path.join(PACKAGE_ROOT, 'kernel-scripts/mount.memcloud');
  return installPlan(target, { values, swap, mount, control, mountHelper, example, settings });
}

function printPlan(flags: GlobalFlags, steps: Step[]): void {
  printData(flags, { steps }, () => planScript(steps));
}

function renderInstalled({ changed, units }: Installed): string {
  const files = changed.length === 0 ? ['Nothing to change.'] : changed.map((file) => `  ${file}`);
  const states = Object.entries(units).map(([name, state]) => `${name}: ${state}`);
  return [...files, ...states].join('\n');
}

async function install(flags: InstallFlags & GlobalFlags): Promise<void> {
  const prefix = absolutePrefix(flags);
  const steps = planOfInstall(flags, prefix);
  if (flags['print-only']) return printPlan(flags, steps);
  checkMachine('service install', { ...flags, prefix });
  if (prefix === '') refuseFleeting();
  const isControl = ['on', 'only'].includes(controlWish(flags));
  if (prefix === '' && isControl) refusePrivate();
  warnOfOwners();
  if (prefix === '' && swapWish(flags.swap) === 'off') await emptySwap(flags);
  const ran =
    prefix === '' ? [DAEMON_UNIT, CONTROL_UNIT].filter((name) => unitState(name) === 'active') : [];
  const changed = await carryOut(steps);
  const units: Record<string, string> = {};
  if (prefix === '') {
    const services = presentUnits(prefix).filter((name) =>
      [DAEMON_UNIT, SWAP_UNIT, MOUNT_UNIT, CONTROL_UNIT].includes(name),
    );
    for (const name of services) {
      const waits = name === SWAP_UNIT || name === MOUNT_UNIT;
      units[name] = await settledState(name, waits ? SETTLE_MS : 0);
    }
  }
  printData(flags, { changed, units }, renderInstalled);
  for (const name of ran.filter((unit) => changed.some((file) => file.includes(`/${unit}`)))) {
    note(`memcloud: ${name} runs as its old unit says until: systemctl restart ${name}`);
  }
  if (units[SWAP_UNIT] !== undefined && units[SWAP_UNIT] !== 'active') {
    note(
      `memcloud: no swap yet; it is tried again until there is a provider. See: memcloud status`,
    );
  }
  if (units[MOUNT_UNIT] !== undefined && units[MOUNT_UNIT] !== 'active') {
    note(
      'memcloud: nothing is mounted yet; it is tried again. See: memcloud status, memcloud mount',
    );
  }
}

/** Before anything is taken away: units without swap can go, swap without units cannot. */
async function emptySwap(flags: GlobalFlags): Promise<void> {
  const devices = networkSwaps().map(({ device }) => device);
  requireRoomForSwapOff(new SystemFiles(), listSwaps(), devices);
  await takeSwapOff(hands(flags), {
    deadlineMs: SWAP_OFF_DEADLINE_S * 1000,
    patienceMs: SWAP_OFF_PATIENCE_S * 1000,
    daemonReplaced: false,
    machineStops: false,
  });
}

async function uninstall(flags: TargetFlags & GlobalFlags & { purge: boolean }): Promise<void> {
  const prefix = absolutePrefix(flags);
  const present = presentUnits(prefix);
  const steps = uninstallPlan(prefix, present, flags.purge);
  if (flags['print-only']) return printPlan(flags, steps);
  checkMachine('service uninstall', { ...flags, prefix });
  if (prefix === '') await emptySwap(flags);
  const changed = await carryOut(steps);
  printData(flags, { changed, units: {} }, renderInstalled);
}

function hands({ socket }: GlobalFlags): SwapHands {
  const words = [process.execPath, CLI_FILE, '--socket', socket];
  return machineHands(words, (text) => note(`memcloud: ${text}`));
}

/**
 * True when memnode is only being replaced: it ended out of order (this is its ExecStopPost), is started
 * again, or about to be.
 */
function daemonReplaced(): boolean {
  const { SERVICE_RESULT = 'success' } = process.env;
  return SERVICE_RESULT !== 'success' || isReplaced(DAEMON_UNIT);
}

const installCommand = command<InstallFlags>({
  command: 'install',
  describe: 'start memnode, and swap, a mount or a control node if wanted, with this machine',
  builder: (argv) =>
    argv
      .option('swap', {
        type: 'string',
        describe: 'swap of this size on the pool; 0 takes it away again',
      })
      .option('mount', {
        type: 'string',
        describe: 'mount files on the pool there, such as /mnt/memcloud; off takes it away again',
      })
      .option('control-plane', {
        type: 'string',
        describe: 'a control node as well; only: that and no memnode; off takes it away again',
      })
      .option('offer', { type: 'string', describe: 'RAM to lend, as for memnode' })
      .option('connect', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [],
        describe: 'HOST:PORT of a peer; may be repeated',
      })
      .option('prefix', { type: 'string', default: '', describe: 'another root; nothing starts' })
      .option('print-only', {
        type: 'boolean',
        default: false,
        describe: 'print what would be done, as a shell script, and change nothing',
      }),
  handler: install,
});

const uninstallCommand = command<TargetFlags & { purge: boolean }>({
  command: 'uninstall',
  describe: 'take swap off, unmount, stop memnode and a control node, and remove the units',
  builder: (argv) =>
    argv
      .option('purge', {
        type: 'boolean',
        default: false,
        describe: 'also settings, trust and the identity of this node',
      })
      .option('prefix', { type: 'string', default: '', describe: 'another root; nothing stops' })
      .option('print-only', {
        type: 'boolean',
        default: false,
        describe: 'print what would be done, as a shell script, and change nothing',
      }),
  handler: uninstall,
});

/** For the units: `swap on` with the words after `--`, again until there are providers. */
const swapOn = command<{ deadline: number; '--'?: string[] }>({
  command: 'swap-on',
  describe: false,
  builder: (argv) =>
    argv.option('deadline', { type: 'number', default: SWAP_ON_DEADLINE_S, describe: 'seconds' }),
  handler: async (flags) => {
    requireRoot('service swap-on');
    const words = flags['--'] ?? [];
    process.exitCode = await keepSwapOn(hands(flags), words, flags.deadline * 1000);
  },
});

/** For the units: ends only when the swap is off, or with an error. */
const swapOff = command<{ deadline: number; patience: number }>({
  command: 'swap-off',
  describe: false,
  builder: (argv) =>
    argv
      .option('deadline', { type: 'number', default: SWAP_OFF_DEADLINE_S, describe: 'seconds' })
      .option('patience', {
        type: 'number',
        default: SWAP_OFF_PATIENCE_S,
        describe: 'seconds in which nothing comes back',
      }),
  handler: async (flags) => {
    requireRoot('service swap-off');
    await takeSwapOff(hands(flags), {
      deadlineMs: flags.deadline * 1000,
      patienceMs: flags.patience * 1000,
      daemonReplaced: daemonReplaced(),
      machineStops: machineStops(),
    });
  },
});

/** The commands of this file. */
export const commands = [
  group('service', 'start with the machine (systemd)', [
    installCommand,
    uninstallCommand,
    swapOn,
    swapOff,
    ...mountCommands,
  ]),
];
