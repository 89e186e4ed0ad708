/**
 * tune-vm.sh against files that stand for /proc/sys/vm, below TUNE_ROOT. What cannot be written is a
 * link to a value of the real kernel that nobody may write, root included.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

const SCRIPT = path.resolve('kernel-scripts/tune-vm.sh');
const READ_ONLY_VALUE = '/proc/sys/kernel/ngroups_max';
const NOBODY = 65534;

const ORIGINAL = {
  min_free_kbytes: '5000',
  watermark_scale_factor: '10',
  'page-cluster': '0',
  swappiness: '60',
};
const TUNED = {
  min_free_kbytes: '65536',
  watermark_scale_factor: '200',
  'page-cluster': '3',
  swappiness: '100',
};
type Values = Record<keyof typeof ORIGINAL, string>;

class Machine {
  readonly root: string;
  readonly stateFile: string;

  constructor(t: Test, values: Values, memoryKb = 8_000_000) {
    this.root = t.testdir({ proc: { sys: { vm: { ...values } } } });
    fs.writeFileSync(
      path.join(this.root, 'proc/meminfo'),
      `MemTotal:  ${memoryKb} kB\nMemFree: 1 kB\n`,
    );
    this.stateFile = path.join(this.root, 'run/memcloud/vm-before');
  }

  file(name: string): string {
    return path.join(this.root, 'proc/sys/vm', name);
  }

  get values(): Record<string, string> {
    const names = Object.keys(ORIGINAL);
    return Object.fromEntries(names.map((n) => [n, fs.readFileSync(this.file(n), 'utf8').trim()]));
  }

  get state(): string | undefined {
    return fs.existsSync(this.stateFile) ? fs.readFileSync(this.stateFile, 'utf8') : undefined;
  }

  forbid(name: string): void {
    fs.rmSync(this.file(name));
    fs.symlinkSync(READ_ONLY_VALUE, this.file(name));
  }

  run(...args: string[]): { code: number | null; out: string; err: string } {
    const { status, stdout, stderr } = spawnSync(SCRIPT, args, {
      encoding: 'utf8',
      env: { ...process.env, TUNE_ROOT: this.root },
      timeout: 20_000,
    });
    return { code: status, out: stdout, err: stderr };
  }
}

t.test('apply prints old and new, and saves the old; undo restores exactly them', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  const { code, out, err } = machine.run();
  t.equal(code, 0, err);
  t.equal(
    out,
    'vm.min_free_kbytes: 5000 -> 65536\nvm.watermark_scale_factor: 10 -> 200\n' +
      'vm.page-cluster: 0 -> 3\nvm.swappiness: 60 -> 100\n',
  );
  t.strictSame(machine.values, TUNED);
  t.equal(
    machine.state,
    'min_free_kbytes 5000\nwatermark_scale_factor 10\npage-cluster 0\nswappiness 60\n',
  );
  t.equal(machine.run('undo').code, 0);
  t.strictSame(machine.values, ORIGINAL);
  t.equal(machine.state, undefined);
});

t.test('a second apply keeps the saved originals', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  machine.run('apply');
  const saved = machine.state;
  fs.writeFileSync(machine.file('swappiness'), '1\n');
  t.equal(machine.run('apply').code, 0);
  t.strictSame(machine.values, TUNED);
  t.equal(machine.state, saved);
  machine.run('undo');
  t.strictSame(machine.values, ORIGINAL);
});

t.test('undo without an apply says so and is no error', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  const { code, err } = machine.run('undo');
  t.equal(code, 0);
  t.match(err, /nothing to undo/);
  t.strictSame(machine.values, ORIGINAL);
});

t.test('reserves are only raised, and a small machine keeps 15/16 of its RAM', async (t) => {
  const more = { ...ORIGINAL, min_free_kbytes: '90000', watermark_scale_factor: '500' };
  const generous = new Machine(t, more);
  generous.run();
  t.strictSame(generous.values, { ...more, 'page-cluster': '3', swappiness: '100' });
  const small = new Machine(t, ORIGINAL, 512_000);
  small.run();
  t.equal(small.values['min_free_kbytes'], '32000');
});

t.test('--dry-run touches nothing', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  const { code, out } = machine.run('--dry-run');
  t.equal(code, 0);
  t.match(out, /^vm\.swappiness: 60 -> 100$/m);
  t.strictSame(machine.values, ORIGINAL);
  t.strictSame(fs.readdirSync(machine.root), ['proc'], 'no state directory either');
  machine.run('apply');
  const saved = machine.state;
  t.match(machine.run('undo', '--dry-run').out, /^vm\.swappiness: 100 -> 60$/m);
  t.strictSame(machine.values, TUNED);
  t.equal(machine.state, saved);
});

for (const name of ['page-cluster', 'swappiness'] as const) {
  t.test(`apply that fails at ${name} leaves everything as it was`, async (t) => {
    const machine = new Machine(t, ORIGINAL);
    machine.forbid(name);
    const before = machine.values;
    const { code, err } = machine.run();
    t.equal(code, 1);
    t.match(err, new RegExp(`cannot write \\d+ to .*/${name}`));
    t.match(err, /vm\.min_free_kbytes is 5000 again/);
    t.strictSame(machine.values, before);
    t.strictSame(fs.readdirSync(path.dirname(machine.stateFile)), [], 'no state file is left');
  });
}

t.test('a second apply that fails goes back one step and keeps the originals', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  machine.run('apply');
  const saved = machine.state;
  fs.writeFileSync(machine.file('min_free_kbytes'), '7000\n');
  machine.forbid('swappiness');
  t.equal(machine.run('apply').code, 1);
  t.equal(machine.values['min_free_kbytes'], '7000');
  t.equal(machine.state, saved);
});

t.test('undo that fails at one value restores the rest and can be run again', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  machine.run('apply');
  machine.forbid('watermark_scale_factor');
  const { code, err } = machine.run('undo');
  t.equal(code, 1);
  t.match(err, /restored 3 of 4; .* undo can be run again/);
  t.equal(machine.values['swappiness'], '60');
  fs.rmSync(machine.file('watermark_scale_factor'));
  fs.writeFileSync(machine.file('watermark_scale_factor'), '200\n');
  t.equal(machine.run('undo').code, 0);
  t.strictSame(machine.values, ORIGINAL);
  t.equal(machine.state, undefined);
});

const badStates: [string, string][] = [
  ['empty', ''],
  ['cut short', 'min_free_kbytes 5000\nwatermark_scale_factor 10\n'],
  ['of another setting', 'overcommit_memory 1\n'],
  ['a path', '../kernel/panic 1\n'],
  ['no number', 'min_free_kbytes five\n'],
  ['a third word', 'min_free_kbytes 5000 1\n'],
];
for (const [what, text] of badStates) {
  t.test(`undo refuses a state file that is ${what}, and changes nothing`, async (t) => {
    const machine = new Machine(t, TUNED);
    fs.mkdirSync(path.dirname(machine.stateFile), { recursive: true });
    fs.writeFileSync(machine.stateFile, text);
    const { code, err } = machine.run('undo');
    t.equal(code, 1);
    t.match(err, /nothing was changed/);
    t.strictSame(machine.values, TUNED);
    t.equal(machine.state, text);
  });
}

t.test('a kernel without one of the values: a sentence, exit 1, nothing changed', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  fs.rmSync(machine.file('swappiness'));
  const { code, err } = machine.run();
  t.equal(code, 1);
  t.match(err, /cannot read .*swappiness/);
  t.equal(fs.readFileSync(machine.file('min_free_kbytes'), 'utf8').trim(), '5000');
  t.equal(machine.state, undefined);
});

t.test('--state puts the old values elsewhere', async (t) => {
  const machine = new Machine(t, ORIGINAL);
  const file = path.join(machine.root, 'elsewhere');
  t.equal(machine.run('--state', file, 'apply').code, 0);
  t.match(fs.readFileSync(file, 'utf8'), /^swappiness 60$/m);
  t.equal(machine.state, undefined);
  t.equal(machine.run('undo', '--state', file).code, 0);
  t.strictSame(machine.values, ORIGINAL);
});

for (const args of [['--force'], ['apply', 'undo'], ['redo'], ['--state'], ['--state', '']]) {
  t.test(`wrong flags (${args.join(' ')}): usage, exit 2, nothing changed`, async (t) => {
    const machine = new Machine(t, ORIGINAL);
    const { code, err } = machine.run(...args);
    t.equal(code, 2);
    t.match(err, /usage: tune-vm\.sh/);
    t.strictSame(machine.values, ORIGINAL);
  });
}

const someUser = process.geteuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
t.test('without root, the running kernel is refused in a plain sentence', async (t) => {
  const { status, stdout, stderr } = spawnSync('bash', ['-s', '--', 'apply'], {
    input: fs.readFileSync(SCRIPT),
    cwd: '/',
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] },
    timeout: 20_000,
    ...someUser,
  });
  t.equal(status, 1);
  t.equal(stdout, '');
  t.equal(stderr, 'tune-vm.sh: run it as root\n');
});
