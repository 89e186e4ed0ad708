/**
 * The units under a real systemd: Debian's, as process 1 of a guest that boots Debian's kernel. The
 * providers are processes outside. What is judged is the journal, which goes to the serial console
 * and so outlives the guest: in which order things stop, and that they do stop.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { NodeProcess } from '../../cli/demo/node-process.ts';
import type { Guest } from '../../cli/guest/guest.ts';
import { ALL_UNITS, MOUNT_DROP_IN } from '../../cli/service/units.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';

const MEMCLOUD = 'node /opt/memcloud/dist/cli/main.js';
const SWAP_MIB = 256;
const DATA_MIB = 60;
const GROUP_MIB = 40;
/** From `reboot` to the end of the machine; under emulation, on a busy host. */
const SHUTDOWN_MAX_MS = 200_000;

interface Providers {
  readonly nodes: NodeProcess[];
  /** Starts one anew that was killed, where it was. */
  readonly revive: (index: number) => Promise<void>;
}

async function startProviders(t: Test): Promise<Providers> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-systemd-'));
  const providers: NodeProcess[] = [];
  t.teardown(async () => {
    await Promise.all(providers.map((node) => node.stop()));
    fs.rmSync(folder, { recursive: true, force: true });
  });
  for (const name of ['provider-a', 'provider-b']) {
    providers.push(await NodeProcess.start({ name, folder, offer: '512M' }));
  }
  const revive = async (index: number): Promise<void> => {
    const { name = '', peerAddress: listen = '' } = providers[index] ?? {};
    providers[index] = await NodeProcess.start({ name, folder, offer: '512M', listen });
  };
  return { nodes: providers, revive };
}

async function boot(t: Test): Promise<Guest> {
  const files: Record<string, { hostPath: string } | string> = {
    // The providers are strangers to a machine that has just been made.
    '/etc/memcloud/config.toml': 'auto-trust = true\n',
  };
  const carried = [
    ...[...ALL_UNITS, MOUNT_DROP_IN].map((name) => `systemd/${name}`),
    'docs/examples/config.toml',
    'kernel-scripts/mount.memcloud',
  ];
  for (const name of carried) files[`/opt/memcloud/${name}`] = { hostPath: path.resolve(name) };
  const onConsole = (line: string): void => {
    if (process.env['SHOW_CONSOLE'] !== undefined) t.comment(line);
  };
  const timeoutMs = 8 * 60_000;
  const programs = ['mdadm', 'bash'];
  return bootGuest(t, { timeoutMs, memoryMib: 640, systemd: true, programs, files, onConsole });
}

/** Waits in the guest until a condition of the shell holds. */
async function until(t: Test, guest: Guest, condition: string, seconds: number): Promise<void> {
  const script = `for i in $(seq ${seconds * 2}); do ${condition} && exit 0; sleep 0.5; done
    systemctl status memnode memcloud-swap; cat /proc/swaps; exit 1`;
  const text = `# until ${condition}\n${script}`;
  const { exitCode } = await runOk(t, guest, text, { timeoutMs: (seconds + 60) * 1000 });
  if (exitCode !== 0) throw new Error(`not within ${seconds} s: ${condition}`);
}

/** A service whose data does not fit in the memory that it may use. */
async function fillSwap(t: Test, guest: Guest): Promise<void> {
  const fill = `dd if=/dev/urandom bs=1M count=${DATA_MIB} 2>/dev/null | tee /dev/shm/data`;
  const sum = `{ read sum rest; echo "$sum  /dev/shm/data" >/run/data.sum; }`;
  await runOk(
    t,
    guest,
    `cat >/run/hog <<'END'\n${fill} | sha256sum | ${sum}\nexec sleep 600\nEND\n` +
      `systemd-run -q --unit=hog -p MemoryMax=${GROUP_MIB}M sh /run/hog`,
  );
  await until(t, guest, 'test -s /run/data.sum', 60);
  await expectSwappedOut(t, guest);
}

/** Part of the data is out there. */
async function expectSwappedOut(t: Test, guest: Guest): Promise<void> {
  const { stdout } = await runOk(t, guest, 'cat /proc/swaps');
  const used = Number(/^\/dev\/\S+\s+\S+\s+\d+\s+(\d+)/m.exec(stdout)?.[1]) / 1024;
  t.ok(used > (DATA_MIB - GROUP_MIB) / 2, `${Math.round(used)} MiB are swapped out`);
}

/** What a service may use; less than it has sends the rest out. */
async function limitMemory(t: Test, guest: Guest, limit: string): Promise<void> {
  const script = `systemctl set-property --runtime hog MemoryMax=${limit}`;
  await runOk(t, guest, script, { timeoutMs: 90_000 });
}

/** Installs from inside, as a person would, and waits for the unit of what was asked for. */
async function install(
  t: Test,
  guest: Guest,
  providers: readonly NodeProcess[],
  what = `--swap ${SWAP_MIB}M`,
  unit = 'memcloud-swap',
): Promise<void> {
  const ports = providers.map(({ peerAddress }) => peerAddress.split(':').at(-1));
  const connect = ports.map((port) => `--connect 10.0.2.2:${port}`).join(' ');
  const words = `${MEMCLOUD} --json service install ${what} --offer 0 ${connect}`;
  const { stdout } = await runOk(t, guest, words, { timeoutMs: 150_000 });
  t.match(JSON.parse(stdout), { units: { 'memnode.service': 'active' } });
  await until(t, guest, `systemctl is-active -q ${unit}`, 90);
}

/** The swap areas as memcloud lists them. */
async function listSwaps(t: Test, guest: Guest): Promise<unknown> {
  const { stdout } = await runOk(t, guest, `${MEMCLOUD} --json swap ls`, { timeoutMs: 90_000 });
  return JSON.parse(stdout);
}

/** Lines of the journal since the last reboot command, and where each named event is in it. */
class Shutdown {
  readonly #lines: string[];

  constructor(console: string) {
    this.#lines = console.split('\n');
  }

  /** The index of the first line that matches; fails when none does. */
  at(t: Test, pattern: RegExp): number {
    const index = this.#lines.findIndex((line) => pattern.test(line));
    if (index < 0) t.fail(`the journal has no ${String(pattern)}`, { lines: this.#lines });
    return index;
  }

  ordered(t: Test, patterns: readonly RegExp[]): void {
    const places = patterns.map((pattern) => this.at(t, pattern));
    const sorted = [...places].sort((a, b) => a - b);
    t.strictSame(places, sorted, patterns.map(String).join(' before '), { lines: this.#lines });
  }
}

async function reboot(t: Test, guest: Guest): Promise<Shutdown> {
  const before = guest.kernelLog.length;
  const startMs = performance.now();
  await runOk(t, guest, 'systemctl reboot');
  await guest.waitForEnd(SHUTDOWN_MAX_MS);
  t.pass(`down in ${Math.round((performance.now() - startMs) / 1000)} s`);
  return new Shutdown(guest.kernelLog.slice(before));
}

const STOP_ORDER = [
  /memcloud: swap is off/,
  /Stopped memcloud-swap\.service/,
  /Stopping memnode\.service/,
  /Stopped memnode\.service/,
  /Stopping guest-network\.service/,
  /Stopped guest-network\.service/,
  /systemd-shutdown\[1\]: All swaps deactivated/,
  /reboot: /,
];

t.test(
  'installed, used; a donor dies, memnode dies, the machine sleeps; shut down in order',
  { skip: skipWithoutGuest(), timeout: 9 * 60_000 },
  async (t) => {
    const { nodes: providers, revive } = await startProviders(t);
    const guest = await boot(t);
    await install(t, guest, providers);
    const shown = await runOk(
      t,
      guest,
      'cat /proc/swaps; systemctl is-active dev-md100.swap; ' +
        'systemctl show memnode -p Type -p WatchdogUSec -p NRestarts',
    );
    t.match(shown.stdout, /^\/dev\/md100 .*\nactive\n/m, 'systemd sees the swap area too');
    for (const line of ['Type=notify', 'WatchdogUSec=30s', 'NRestarts=0']) {
      t.ok(shown.stdout.split('\n').includes(line), line);
    }
    await fillSwap(t, guest);
    const statusText = 'systemctl show memnode -p StatusText';
    await until(
      t,
      guest,
      `${statusText} | grep -q 'peers 2 of 2 up.*, swap .* of ${SWAP_MIB} MiB'`,
      30,
    );

    await providers[1]?.kill();
    await until(t, guest, `${statusText} | grep -q 'peers 1 of 2 up'`, 30);
    await runOk(t, guest, 'systemctl kill -s KILL memnode');
    const replaced = 'systemctl show memnode -p NRestarts -p SubState | grep -c "=1$\\|=running"';
    await until(t, guest, `test "$(${replaced})" = 2`, 90);
    await limitMemory(t, guest, 'infinity');
    await runOk(t, guest, 'sha256sum -c /run/data.sum', { timeoutMs: 90_000 });
    await until(t, guest, 'systemctl is-active -q memcloud-swap', 60);
    t.match(await listSwaps(t, guest), [{ device: '/dev/md100', health: 'degraded' }]);

    const target = '[Unit]\nRequires=memcloud-sleep.service\nAfter=memcloud-sleep.service\n';
    await guest.writeFile('/run/systemd/system/doze.target', target);
    await runOk(t, guest, 'systemctl daemon-reload; systemctl start doze.target', {
      timeoutMs: 120_000,
    });
    const asleep = await runOk(t, guest, 'cat /proc/swaps');
    t.notMatch(asleep.stdout, /^\/dev/m, 'no swap on the network while the machine sleeps');
    // Swap on one copy would have to be asked for: it comes back when there are two lenders again.
    await revive(1);
    await runOk(t, guest, 'systemctl stop doze.target');
    await until(t, guest, 'grep -q ^/dev /proc/swaps', 120);

    await limitMemory(t, guest, `${GROUP_MIB}M`);
    await expectSwappedOut(t, guest);
    const shutdown = await reboot(t, guest);
    shutdown.ordered(t, STOP_ORDER);
    t.notMatch(guest.kernelLog, /blocked for more than|timed out\. Killing|Out of memory/);
  },
);

t.test(
  'every donor dies, and the machine still shuts down',
  { skip: skipWithoutGuest(), timeout: 9 * 60_000 },
  async (t) => {
    const { nodes: providers } = await startProviders(t);
    const guest = await boot(t);
    await install(t, guest, providers);
    await fillSwap(t, guest);
    await Promise.all(providers.map((node) => node.kill()));
    const statusText = 'systemctl show memnode -p StatusText';
    await until(t, guest, `${statusText} | grep -q 'peers 0 of 2 up'`, 30);
    await runOk(t, guest, 'systemctl is-active memnode; uptime');
    const shutdown = await reboot(t, guest);
    shutdown.ordered(t, STOP_ORDER);
    t.notMatch(guest.kernelLog, /Kernel panic|blocked for more than/);
  },
);

const MOUNT = '/mnt/memcloud';
const MOUNT_STOP_ORDER = [
  /Stopped memcloud-mount\.service/,
  /Stopping memnode\.service/,
  /Stopped memnode\.service/,
  /Stopping guest-network\.service/,
  /reboot: /,
];

t.test(
  'files: the mount comes with the machine, is there again after memnode died, and goes in order',
  { skip: skipWithoutGuest(), timeout: 9 * 60_000 },
  async (t) => {
    const { nodes: providers } = await startProviders(t);
    const guest = await boot(t);
    await runOk(t, guest, 'modprobe fuse; test -c /dev/fuse');
    await install(t, guest, providers, `--mount ${MOUNT}`, 'memcloud-mount');
    const isMounted = `grep -q ' ${MOUNT} fuse' /proc/mounts`;
    await runOk(t, guest, isMounted);
    // Another service sees it too.
    const write = `dd if=/dev/urandom of=${MOUNT}/data bs=1M count=20; echo $? >/run/written`;
    await guest.writeFile('/run/writer', `${write}\n`);
    await runOk(t, guest, 'systemd-run -q --unit=writer sh /run/writer');
    await until(t, guest, 'test "$(cat /run/written)" = 0', 60);
    await runOk(
      t,
      guest,
      `sha256sum ${MOUNT}/data >/run/data.sum && echo 3 >/proc/sys/vm/drop_caches && ` +
        'sha256sum -c /run/data.sum',
      { timeoutMs: 90_000 },
    );

    // What mount(8) does with a line of fstab.
    const second = '/mnt/second';
    await runOk(
      t,
      guest,
      `mkdir -p ${second} && echo 'memcloud ${second} memcloud size=64M,copies=2,noauto 0 0' ` +
        `>>/etc/fstab && mount ${second} && echo here >${second}/file && umount ${second} && ` +
        `! grep -q ' ${second} ' /proc/mounts`,
      { timeoutMs: 120_000 },
    );

    await runOk(t, guest, 'systemctl kill -s KILL memnode');
    const replaced = 'systemctl show memnode -p NRestarts -p SubState | grep -c "=1$\\|=running"';
    await until(t, guest, `test "$(${replaced})" = 2`, 90);
    await until(t, guest, `systemctl is-active -q memcloud-mount && ${isMounted}`, 120);
    const { stdout } = await runOk(t, guest, `ls ${MOUNT}; stat -f -c %T ${MOUNT}`);
    t.notMatch(stdout, /data/, 'files end with the memnode that made them');

    // Somebody sits in it: the shutdown takes the mount away all the same.
    await runOk(
      t,
      guest,
      `systemd-run -q --unit=sitter -p WorkingDirectory=${MOUNT} ` +
        `-p IgnoreOnIsolate=yes -p DefaultDependencies=no sleep 900`,
    );
    const shutdown = await reboot(t, guest);
    shutdown.ordered(t, MOUNT_STOP_ORDER);
    t.notMatch(guest.kernelLog, /Kernel panic|blocked for more than/);
  },
);
