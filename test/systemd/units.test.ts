/** The units: systemd understands them, the README explains them, and the times fit the programs. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { controlVariableOf } from '../../common/config/control-options.ts';
import { judge, requires } from '../helpers/judges.ts';

const FOLDER = path.resolve('systemd');
const DAEMON = 'memnode.service';
const SWAP = 'memcloud-swap.service';
const SLEEP = 'memcloud-sleep.service';
const MOUNT = 'memcloud-mount.service';
const CONTROL = 'memcloud-control.service';
const SERVICES = [DAEMON, SWAP, SLEEP, MOUNT, CONTROL];
const SLICE = 'memcloud.slice';
const SOCKET = 'memcloud.socket';
const DROP_IN = 'memnode.service.d/lan.conf.example';
const MOUNT_DROP_IN = 'memnode.service.d/mount.conf';

function read(name: string): string {
  return fs.readFileSync(path.join(FOLDER, name), 'utf8');
}

/** Directives in order, as `Name=value`. */
function directives(name: string): string[] {
  const lines = read(name).split('\n');
  return lines.filter((line) => /^[A-Z]/.test(line));
}

/** The seconds of a directive. */
function seconds(name: string, directive: string): number {
  const line = directives(name).find((text) => text.startsWith(`${directive}=`));
  return Number(line?.split('=')[1]);
}

/** Units with programs that exist here, and the drop-in made active. */
function installed(t: Test): string {
  const folder = t.testdir({
    bin: { memnode: '#!/bin/sh\n', memcloud: '#!/bin/sh\n' },
    'memnode.service.d': {},
  });
  const programs = path.join(folder, 'bin');
  for (const name of fs.readdirSync(programs)) fs.chmodSync(path.join(programs, name), 0o755);
  for (const name of [...SERVICES, SLICE, SOCKET, DROP_IN, MOUNT_DROP_IN]) {
    const text = read(name).replaceAll(/\/usr\/bin\/mem/g, `${programs}/mem`);
    fs.writeFileSync(path.join(folder, name.replace('.example', '')), text);
  }
  return folder;
}

/** The folders of the named units come first in the search, so that slice and drop-in are found. */
async function verify(folder: string): Promise<{ code: number; said: string }> {
  const units = [SLICE, SOCKET, ...SERVICES].map((name) => path.join(folder, name));
  const { code, stdout, stderr } = await judge('systemd-analyze', ['verify', '--man=no', ...units]);
  return { code, said: stdout + stderr };
}

t.test('systemd-analyze verify', requires('systemd-analyze'), async (t) => {
  t.test('has nothing to say of the units and the drop-in', async (t) => {
    t.strictSame(await verify(installed(t)), { code: 0, said: '' });
  });
  t.test('would have said it: it knows a wrong directive, value and program', async (t) => {
    const wrongs: [string, string, string, RegExp][] = [
      [DAEMON, 'MemoryMin=', 'MemoryMinimum=', /'MemoryMinimum'/],
      [DAEMON, 'KillMode=mixed', 'KillMode=gently', /Failed to parse/i],
      [DAEMON, '@pkey', '@pkeys', /@pkeys/],
      [SWAP, 'swapoff\n', 'swapout\n', /swapout/],
      [SLEEP, 'StopWhenUnneeded=', 'StopWhenUseless=', /'StopWhenUseless'/],
    ];
    for (const [unit, right, wrong, complaint] of wrongs) {
      const folder = installed(t);
      const file = path.join(folder, unit);
      const text = fs.readFileSync(file, 'utf8');
      t.ok(text.includes(right), `${right} is there to be made wrong`);
      fs.writeFileSync(file, text.replace(right, wrong));
      t.match((await verify(folder)).said, complaint);
    }
    let folder = installed(t);
    const dropIn = path.join(folder, DROP_IN.replace('.example', ''));
    fs.writeFileSync(dropIn, fs.readFileSync(dropIn, 'utf8').replace('1.0/24', '1.0/240'));
    t.match((await verify(folder)).said, /lan\.conf:.*192\.168\.1\.0\/240/, 'the drop-in is read');
    for (const program of ['memnode', 'memcloud']) {
      folder = installed(t);
      fs.rmSync(path.join(folder, 'bin', program));
      t.match((await verify(folder)).said, new RegExp(`${program} is not executable`));
    }
  });
});

t.test('systemd-analyze security', requires('systemd-analyze'), async (t) => {
  const folder = installed(t);
  fs.rmSync(path.join(folder, path.dirname(DROP_IN)), { recursive: true });
  const readme = read('README.md');
  for (const name of SERVICES) {
    const args = ['security', '--offline=true', '--no-pager', path.join(folder, name)];
    const { stdout, stderr } = await judge('systemd-analyze', args);
    if (/Unknown option|unrecognized option/.test(stderr)) {
      t.comment('this systemd-analyze cannot look at files');
      return;
    }
    const exposure: string = /Overall exposure level for \S+: ([\d.]+) /.exec(stdout)?.[1] ?? '';
    t.ok(Number(exposure) > 0 && Number(exposure) <= 3.5, `${name}: ${exposure}, 10 is the worst`);
    const unit = name.replace('.service', '');
    t.match(readme, new RegExp(`\\b${unit} ${exposure}\\b`), 'as the README says');
  }
});

t.test('the README explains each directive of each unit, and no other', async (t) => {
  const readme = read('README.md');
  t.ok(readme.trimEnd().split('\n').length <= 40, 'at most 40 lines');
  const table = readme.split('\n').filter((line) => line.startsWith('| `'));
  const cells = table.map((line) => line.split('|')[1] ?? '');
  const explained = new Set(cells.flatMap((cell) => cell.match(/[A-Za-z]+/g) ?? []));
  const used = new Set(
    [...SERVICES, SLICE, SOCKET, DROP_IN, MOUNT_DROP_IN]
      .flatMap(directives)
      .map((line) => line.split('=')[0] ?? ''),
  );
  t.ok(used.size > 50, 'the directives were found');
  t.strictSame(
    [...used].filter((name) => !explained.has(name)),
    [],
    'not explained',
  );
  t.strictSame(
    [...explained].filter((name) => !used.has(name)),
    [],
    'explained, not used',
  );
});

t.test('the daemon is as safe for swap as it says', async (t) => {
  const lines = directives(DAEMON);
  for (const line of [
    ...['Type=notify', 'NotifyAccess=main', 'ExecStart=/usr/bin/memnode', 'MemorySwapMax=0'],
    ...['LimitMEMLOCK=infinity', 'LimitCORE=0', 'OOMScoreAdjust=-1000', 'OOMPolicy=continue'],
    ...['StateDirectory=memcloud', 'RuntimeDirectory=memcloud', 'Slice=memcloud.slice'],
  ]) {
    t.ok(lines.includes(line), line);
  }
  // V8 writes the code that it runs; /dev/nbdN has to be seen.
  t.notMatch(lines.join('\n'), /MemoryDenyWriteExecute|PrivateDevices|EnvironmentFile/);
  const min = (name: string): string | undefined =>
    directives(name).find((line) => line.startsWith('MemoryMin='));
  t.equal(min(SLICE), min(DAEMON), 'the slice protects as much as its service asks for');
});

t.test('the control node has no privilege at all', async (t) => {
  const lines = directives(CONTROL);
  for (const line of [
    ...['DynamicUser=yes', 'CapabilityBoundingSet=', 'NoNewPrivileges=yes', 'PrivateDevices=yes'],
    ...['Type=notify', 'NotifyAccess=main', 'ExecStart=/usr/bin/memcloud control-plane'],
    ...['StateDirectory=memcloud-control', 'RuntimeDirectory=memcloud-control', 'LimitCORE=0'],
  ]) {
    t.ok(lines.includes(line), line);
  }
  // It gives itself 10 s to end.
  t.ok(seconds(CONTROL, 'TimeoutStopSec') > 10);
  const variables = lines.filter((line) => line.startsWith('Environment='));
  const names = variables.map((line) => /=(\w+)=/.exec(line)?.[1]);
  t.strictSame(names, [controlVariableOf('state'), controlVariableOf('socket')]);
});

t.test('swapon runs where its device has a name', async (t) => {
  // In a mount namespace of its own, which ends with the command, /proc/swaps would say `/nbd0`.
  const namespaced =
    /^(Private(Devices|IPC|Mounts|Tmp)|ProcSubset|ProtectProc|ProtectHome|ProtectSystem|\w+Paths|ProtectKernel\w+|ProtectControlGroups|Bind\w+|MountFlags|TemporaryFileSystem)=/;
  t.strictSame(
    directives(SWAP).filter((line) => namespaced.test(line)),
    [],
  );
});

t.test('what memnode mounts is seen by the machine once the drop-in is there', async (t) => {
  // Whatever would give memnode a mount namespace is undone, by what systemd takes for "off".
  const values = new Map(
    directives(MOUNT_DROP_IN).map((line) => line.split('=') as [string, string]),
  );
  const namespaced =
    /^(Private(Devices|Mounts|Tmp)|Protect(Proc|System|Home|Kernel\w+|ControlGroups)|\w+Paths)=/;
  for (const line of directives(DAEMON).filter((text) => namespaced.test(text))) {
    const [name = ''] = line.split('=');
    t.match(values.get(name), /^(no|default|)$/, name);
  }
  t.ok(directives(MOUNT_DROP_IN).includes('DeviceAllow=/dev/fuse rw'));
  t.match(directives(MOUNT_DROP_IN).join('\n'), /^ExecStopPost=\+.*service mount-clean$/m);
  const lines = directives(MOUNT);
  t.ok(lines.includes('PartOf=memnode.service'), 'stopping the daemon unmounts first');
  t.ok(lines.some((line) => /^After=.*memnode\.service/.test(line)));
});

t.test('each program ends by itself before systemd kills it', async (t) => {
  const deadline = (name: string, command: string): number => {
    const line = directives(name).find((text) => text.includes(command));
    return Number(/--deadline (\d+)/.exec(line ?? '')?.[1]);
  };
  const swapOff = 'service swap-off';
  t.ok(seconds(DAEMON, 'TimeoutStopSec') > deadline(DAEMON, swapOff) + 20);
  t.ok(seconds(SWAP, 'TimeoutStopSec') > deadline(SWAP, swapOff) + 20);
  t.ok(seconds(SLEEP, 'TimeoutStartSec') > deadline(SLEEP, swapOff) + 20);
  // `swap-on` begins its last try after 60 s and gives it 150 s; memnode gives itself 20 s to end.
  t.ok(seconds(SWAP, 'TimeoutStartSec') > 60 + 150 + 20);
  // A call may take 40 s after the last look at the clock, and a lazy one follows.
  t.ok(seconds(MOUNT, 'TimeoutStartSec') > deadline(MOUNT, 'mount-on') + 40 + 20);
  t.ok(seconds(MOUNT, 'TimeoutStopSec') > deadline(MOUNT, 'mount-off') + 40);
  t.ok(seconds(DAEMON, 'WatchdogSec') > 20, 'an end that takes its time is not a stuck loop');
});

t.test('swap is off before the daemon, the network and the file systems are', async (t) => {
  const lines = directives(SWAP);
  const after = lines.filter((line) => line.startsWith('After=')).join(' ');
  // Stops are ordered the other way round.
  for (const name of ['memnode.service', 'network.target']) t.ok(after.includes(name), name);
  t.ok(lines.includes('PartOf=memnode.service'), 'stopping the daemon stops swap first');
  t.ok(lines.includes('Before=umount.target') && lines.includes('Conflicts=umount.target'));
  t.ok(directives(DAEMON).some((line) => /^After=.*\bnetwork\.target\b/.test(line)));
  t.ok(directives(SLEEP).includes('Before=sleep.target'));
  t.ok(directives(SLEEP).includes('RequiredBy=sleep.target'), 'no sleep when swap stays on');
});
