/** The proof of each protection, from what the kernel writes: made-up files for what needs privilege, this process for the rest. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { kitStatus, type KitPart } from '../../common/kit-status.ts';

/** A line of /proc/PID/stat; the name has what a parser may stumble over. */
function statLine(flags: number, priority: number, policy: number): string {
  const before = `7 (a) b (c) S 1 7 7 0 -1 ${flags}`;
  const between = Array.from({ length: 30 }, () => '0').join(' ');
  return `${before} ${between} ${priority} ${policy} 0 0 0\n`;
}

interface World {
  threads?: string[];
  group?: string;
  status?: string;
  limits?: string;
  oomScore?: string;
  mounts?: string;
  groups?: Record<string, Record<string, string>>;
  controllers?: string;
}

function world(t: Test, given: World): (pid?: number) => Record<string, KitPart> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kit-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  const write = (name: string, text: string): void => {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), text);
  };
  (given.threads ?? [statLine(0, 0, 0)]).forEach((line, index) => {
    write(`proc/7/task/${7 + index}/stat`, line);
  });
  write('proc/7/cgroup', `1:name=systemd:/x\n0::${given.group ?? '/a/b'}\n`);
  write('proc/7/status', given.status ?? 'VmLck:\t       0 kB\nVmSwap:\t       0 kB\n');
  write('proc/7/limits', given.limits ?? 'Max locked memory         65536  65536  bytes\n');
  write('proc/7/oom_score_adj', given.oomScore ?? '0\n');
  write('proc/self/mounts', given.mounts ?? 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n');
  write('cgroup/cgroup.controllers', given.controllers ?? 'cpu memory pids\n');
  for (const [group, files] of Object.entries(given.groups ?? {})) {
    for (const [file, text] of Object.entries(files)) write(`cgroup${group}/${file}`, text);
  }
  const roots = { proc: path.join(folder, 'proc'), cgroup: path.join(folder, 'cgroup') };
  return (pid = 7) => Object.fromEntries(kitStatus(pid, roots).map((part) => [part.part, part]));
}

const FLAGS = 0x80000 | 0x100000;

t.test('the flags must be on every thread', (t) => {
  const cases: [string[], boolean, string][] = [
    [[statLine(FLAGS | 0x400000, 0, 0), statLine(FLAGS, 0, 0)], true, '2 of 2 threads'],
    [[statLine(FLAGS, 0, 0), statLine(0x400000, 0, 0)], false, '1 of 2 threads'],
    [[statLine(0x80000, 0, 0)], false, '0 of 1 threads'],
    [[statLine(0x100000, 0, 0)], false, '0 of 1 threads'],
  ];
  for (const [threads, active, detail] of cases) {
    t.match(world(t, { threads })()['io-flusher'], { active, detail });
  }
  t.end();
});

t.test('the scheduling policy must be on every thread', (t) => {
  const cases: [string[], boolean, string][] = [
    [[statLine(0, 10, 1), statLine(0, 10, 2)], true, '2 of 2 threads, priority 10'],
    [[statLine(0, 10, 1), statLine(0, 0, 0)], false, '1 of 2 threads, priority 10'],
    [[statLine(0, 0, 0)], false, '0 of 1 threads'],
  ];
  for (const [threads, active, detail] of cases) {
    t.match(world(t, { threads })()['realtime'], { active, detail, optional: true });
  }
  t.end();
});

t.test('no swap: by the group or one above it, and nothing may be out already', (t) => {
  const none = { 'memory.swap.max': '0\n' };
  const max = { 'memory.swap.max': 'max\n' };
  const cases: [World['groups'], string, boolean][] = [
    [{ '/a': max, '/a/b': none }, '0', true],
    [{ '/a': none, '/a/b': max }, '0', true],
    [{ '/a': max, '/a/b': max }, '0', false],
    [{ '/a': max, '/a/b': none }, '812', false],
    [{}, '0', false],
  ];
  for (const [groups, kilobytes, active] of cases) {
    const status = `VmSwap:\t   ${kilobytes} kB\n`;
    t.equal(world(t, { groups: groups ?? {}, status })()['no-swap']?.active, active);
  }
  const found = world(t, { groups: { '/a/b': none }, status: 'VmSwap:\t 812 kB\n' })();
  t.match(found['no-swap'], { detail: 'memory.swap.max is 0 in b, 812 KiB swapped out' });
  t.end();
});

t.test('memory.min is worth what the groups above leave of it', (t) => {
  const min = (bytes: number): Record<string, string> => ({
    'memory.min': `${bytes}\n`,
    'memory.current': '1048576\n',
  });
  const recursive = 'cgroup2 /sys/fs/cgroup cgroup2 rw,memory_recursiveprot 0 0\n';
  const plain = 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n';
  const cases: [number, number, string, boolean, string][] = [
    [4096, 8192, plain, true, '4 KiB protected of 1 MiB in use'],
    [8192, 4096, plain, true, '4 KiB protected of 1 MiB in use'],
    [8192, 0, plain, false, '0 B protected of 1 MiB in use'],
    [0, 8192, plain, false, '0 B protected of 1 MiB in use'],
    [0, 8192, recursive, true, '8 KiB protected of 1 MiB in use'],
    [0, 0, recursive, false, '0 B protected of 1 MiB in use'],
    [8192, 0, recursive, false, '0 B protected of 1 MiB in use'],
  ];
  for (const [inner, outer, mounts, active, detail] of cases) {
    const groups = { '/a': min(outer), '/a/b': min(inner) };
    t.match(world(t, { groups, mounts })()['memory-min'], { active, detail });
  }
  t.match(world(t, { group: '/' })()['memory-min'], { active: false }, 'nothing for the root');
  t.end();
});

t.test('without the memory controller the two parts of groups are absent', (t) => {
  const parts = world(t, { controllers: 'cpu pids\n' })();
  for (const part of ['no-swap', 'memory-min']) {
    t.match(parts[part], { active: false, detail: /no control groups of version 2/ });
  }
  t.end();
});

t.test('only the score that spares a process for certain counts', (t) => {
  for (const [oomScore, active] of [
    ['-1000\n', true],
    ['-999\n', false],
    ['0\n', false],
  ] as const) {
    t.equal(world(t, { oomScore })()['oom-score']?.active, active, oomScore);
  }
  t.end();
});

t.test('locked pools: locked, or at least allowed to', (t) => {
  const locked = world(t, { status: 'VmLck:\t 65536 kB\n' })();
  t.match(locked['locked-pools'], { active: true, detail: '64 MiB locked' });
  t.match(world(t, {})()['locked-pools'], { active: false, detail: 'it may not lock' });
  const limits = 'Max locked memory         unlimited  unlimited  bytes\n';
  t.match(world(t, { limits })()['locked-pools'], { active: true, detail: /may lock/ });
  const capable = world(t, { status: 'CapEff:\t0000000000004000\n' })();
  t.match(capable['locked-pools'], { active: true });
  t.end();
});

t.test('a process that is gone has no protection, and every part says so', (t) => {
  const parts = Object.values(world(t, {})(8));
  t.equal(parts.length, 6);
  for (const { active, detail, risk } of parts) {
    t.match({ active, detail }, { active: false, detail: 'process 8 cannot be read' });
    t.ok(risk.length > 20, 'what that risks');
  }
  t.end();
});

t.test('the real kernel is understood', (t) => {
  const parts = Object.fromEntries(kitStatus(process.pid).map((part) => [part.part, part]));
  const threads = fs.readdirSync('/proc/self/task').length;
  t.equal(parts['io-flusher']?.detail, `0 of ${threads} threads`, 'a test run is not protected');
  t.equal(parts['realtime']?.detail, `0 of ${threads} threads`);
  t.equal(
    parts['oom-score']?.detail,
    `oom_score_adj ${fs.readFileSync('/proc/self/oom_score_adj', 'utf8').trim()}`,
  );
  t.end();
});
