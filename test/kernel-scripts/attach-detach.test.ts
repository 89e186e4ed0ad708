/**
 * attach.sh and detach.sh against files that stand for /sys and /proc, below NBD_ROOT, with programs
 * of our own in the place of nbd-client, swapoff and modprobe.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

const FOLDER = path.resolve('kernel-scripts');
const NOBODY = 65534;

/** Notes its words, and does to the tree what the real one does to the kernel. */
const NBD_CLIENT = `#!/bin/sh
echo "nbd-client $*" >>"$NBD_ROOT/calls"
if [ "$1" = -d ]; then rm -f "$NBD_ROOT/sys/block/\${2##*/}/pid"; exit 0; fi
[ ! -e "$NBD_ROOT/refuse" ] || exit 1
device=\${3##*/}
echo 4711 >"$NBD_ROOT/sys/block/$device/pid"
echo 8 >"$NBD_ROOT/sys/block/$device/size"
`;
const OTHER = '#!/bin/sh\necho "$(basename "$0") $*" >>"$NBD_ROOT/calls"\n';

class Machine {
  readonly root: string;

  constructor(t: Test, tree: { mounts?: string; swaps?: string; attached?: boolean } = {}) {
    const { mounts = '', swaps = '', attached = false } = tree;
    this.root = t.testdir({
      bin: { 'nbd-client': NBD_CLIENT, swapoff: OTHER, modprobe: OTHER },
      proc: { mounts, swaps: `Filename Type Size Used Priority\n${swaps}` },
      sys: {
        block: {
          nbd0: attached ? { size: '8\n', pid: '4711\n', holders: {} } : { size: '0\n' },
          nbd1: { size: '0\n' },
        },
      },
    });
    for (const name of ['nbd-client', 'swapoff', 'modprobe']) {
      fs.chmodSync(path.join(this.root, 'bin', name), 0o755);
    }
  }

  /** What was called, one line each. */
  get calls(): string {
    const file = path.join(this.root, 'calls');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  }

  write(name: string, text = ''): void {
    const file = path.join(this.root, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }

  attached(device: string): boolean {
    return fs.existsSync(path.join(this.root, 'sys/block', device, 'pid'));
  }

  run(script: string, ...args: string[]): { code: number | null; out: string; err: string } {
    const bin = path.join(this.root, 'bin');
    const { status, stdout, stderr } = spawnSync(path.join(FOLDER, script), args, {
      encoding: 'utf8',
      env: { PATH: `${bin}:${process.env['PATH'] ?? ''}`, NBD_ROOT: this.root },
      timeout: 30_000,
    });
    return { code: status, out: stdout, err: stderr };
  }
}

t.test('attach prints the first free device; detach frees it', async (t) => {
  const machine = new Machine(t, { attached: true });
  const { code, out, err } = machine.run('attach.sh', '--tcp', 'host:10809', '--export', 'disk');
  t.equal(code, 0, err);
  t.equal(out, '/dev/nbd1\n');
  t.equal(machine.calls, 'nbd-client host 10809 /dev/nbd1 -N disk -b 4096 -t 30 -C 1\n');
  t.equal(machine.run('detach.sh', '/dev/nbd1').code, 0);
  t.notOk(machine.attached('nbd1'));
  t.ok(machine.attached('nbd0'), 'the other one stays');
  const again = machine.run('detach.sh', '/dev/nbd1');
  t.match(again, { code: 0, err: /is not attached/ }, 'twice is no error');
});

t.test('every option reaches nbd-client', async (t) => {
  const machine = new Machine(t);
  const options = ['--connections', '4', '--timeout', '7', '--device', '/dev/nbd1'];
  t.equal(machine.run('attach.sh', '--unix', '/run/a b', ...options).out, '/dev/nbd1\n');
  t.equal(machine.calls, 'nbd-client -unix /run/a b /dev/nbd1 -N  -b 4096 -t 7 -C 4\n');
});

t.test('--dry-run of both says what would run, and runs nothing', async (t) => {
  const bare = new Machine(t);
  fs.rmSync(path.join(bare.root, 'sys'), { recursive: true });
  const loaded = bare.run('attach.sh', '--dry-run', '--unix', '/run/x');
  t.match(loaded, { code: 0, out: '/dev/nbd0\n', err: /would run: modprobe nbd\n/ });
  const machine = new Machine(t, { attached: true, swaps: '/dev/nbd0 partition 4 0 -2\n' });
  const attach = machine.run('attach.sh', '--dry-run', '--unix', '/run/x');
  t.match(attach, { code: 0, out: '/dev/nbd1\n', err: /would run: nbd-client -unix \/run\/x/ });
  const detach = machine.run('detach.sh', '--dry-run', '--swapoff', '/dev/nbd0');
  const planned = 'would run: swapoff /dev/nbd0\nwould run: nbd-client -d /dev/nbd0\n';
  t.match(detach, { code: 0, out: '', err: planned });
  t.equal(bare.calls + machine.calls, '');
});

t.test('an attachment that fails is taken back', async (t) => {
  const machine = new Machine(t);
  machine.write('refuse');
  const { code, out } = machine.run('attach.sh', '--unix', '/run/x');
  t.not(code, 0);
  t.equal(out, '');
  t.match(machine.calls, /nbd-client -unix .*\nnbd-client -d \/dev\/nbd0\n$/);
});

t.test('an attachment whose size never comes is taken back', async (t) => {
  const machine = new Machine(t);
  machine.write('bin/nbd-client', NBD_CLIENT.replace('echo 8 >', 'echo 0 >'));
  const { code, out } = machine.run('attach.sh', '--unix', '/run/x');
  t.not(code, 0);
  t.equal(out, '');
  t.notOk(machine.attached('nbd0'));
});

t.test('attach refuses a device in use, and a machine without a free one', async (t) => {
  const machine = new Machine(t, { attached: true });
  const taken = machine.run('attach.sh', '--unix', '/run/x', '--device', '/dev/nbd0');
  t.match(taken, { code: 1, out: '', err: /\/dev\/nbd0 is in use/ });
  machine.write('sys/block/nbd1/pid', '1\n');
  const full = machine.run('attach.sh', '--unix', '/run/x');
  t.match(full, { code: 1, out: '', err: /no free network block device; run: modprobe nbd/ });
  t.equal(machine.calls, '');
});

const inUse: [string, ConstructorParameters<typeof Machine>[1], RegExp][] = [
  ['mounted', { mounts: '/dev/nbd0 /mnt ext4 rw 0 0\n' }, /is mounted; run: umount \/dev\/nbd0/],
  ['mounted by a partition', { mounts: '/dev/nbd0p1 /mnt ext4 rw 0 0\n' }, /is mounted/],
  ['swapped to', { swaps: '/dev/nbd0\tpartition 4 0 -2\n' }, /run: swapoff \/dev\/nbd0/],
];
for (const [how, tree, sentence] of inUse) {
  t.test(`detach refuses a device that is ${how}`, async (t) => {
    const machine = new Machine(t, { attached: true, ...tree });
    t.match(machine.run('detach.sh', '/dev/nbd0'), { code: 1, err: sentence });
    t.equal(machine.calls, '');
    t.ok(machine.attached('nbd0'));
  });
}

t.test('detach refuses a device that dm-crypt stands on, also with --swapoff', async (t) => {
  const machine = new Machine(t, { attached: true });
  machine.write('sys/block/nbd0/holders/dm-3');
  const ended = machine.run('detach.sh', '--swapoff', '/dev/nbd0');
  t.match(ended, { code: 1, err: /dm-3 stands on \/dev\/nbd0/ });
  t.equal(machine.calls, '');
});

t.test('detach --swapoff takes swap off first; nbd1 in use is not nbd11', async (t) => {
  const machine = new Machine(t, { attached: true, swaps: '/dev/nbd0 partition 4 0 -2\n' });
  t.equal(machine.run('detach.sh', '--swapoff', '/dev/nbd0').code, 0);
  t.equal(machine.calls, 'swapoff /dev/nbd0\nnbd-client -d /dev/nbd0\n');
  const other = new Machine(t, { attached: true, mounts: '/dev/nbd01 /mnt ext4 rw 0 0\n' });
  t.equal(other.run('detach.sh', '/dev/nbd0').code, 0);
});

for (const [script, ...args] of [
  ['attach.sh'],
  ['attach.sh', '--unix'],
  ['attach.sh', '--unix', '/a', '--device', '/dev/sda'],
  ['attach.sh', '--unix', '/a', '--force'],
  ['detach.sh'],
  ['detach.sh', '/dev/sda'],
  ['detach.sh', '/dev/nbd0', '/dev/nbd1'],
] as [string, ...string[]][]) {
  t.test(`${script} ${args.join(' ')}: usage, exit 2, nothing called`, async (t) => {
    const machine = new Machine(t);
    t.match(machine.run(script, ...args), { code: 2, out: '', err: /usage: (at|de)tach\.sh/ });
    t.equal(machine.calls, '');
  });
}

const someUser = process.geteuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
for (const [script, ...args] of [
  ['attach.sh', '--unix', '/a'],
  ['detach.sh', '/dev/nbd0'],
] as [string, ...string[]][]) {
  t.test(`${script} without root, on the running kernel: a plain sentence`, async (t) => {
    const { status, stdout, stderr } = spawnSync('bash', ['-s', '--', ...args], {
      input: fs.readFileSync(path.join(FOLDER, script)),
      cwd: '/',
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
      timeout: 20_000,
      ...someUser,
    });
    t.match({ status, stdout, stderr }, { status: 1, stdout: '', stderr: /run it as root\n$/ });
  });
}
