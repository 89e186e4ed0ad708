/** Which group words mean, which may not be a scope, and how limits are set and given back. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ScopedGroup, findScope, scopeProblem } from '../../../cli/system/scope.ts';

const MIB = 2 ** 20;

/** A tree of folders that looks like control groups. */
function tree(t: Test, groups: readonly string[]): string {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'scope-'));
  t.teardown(() => fs.rmSync(root, { recursive: true, force: true }));
  for (const group of ['/', ...groups]) {
    fs.mkdirSync(path.join(root, group), { recursive: true });
    fs.writeFileSync(path.join(root, group, 'cgroup.procs'), '');
  }
  return root;
}

t.test('words name one group', (t) => {
  const root = tree(t, [
    '/system.slice/nightly.service',
    '/system.slice/build@1.service',
    '/user.slice/user-1.slice/app.service',
    '/user.slice/user-2.slice/app.service',
    '/mine/deep',
  ]);
  const cases: [string, string | RegExp][] = [
    ['nightly.service', '/system.slice/nightly.service'],
    ['nightly', '/system.slice/nightly.service'],
    ['build@1', '/system.slice/build@1.service'],
    ['deep', '/mine/deep'],
    ['user-1.slice', '/user.slice/user-1.slice'],
    ['/mine/deep', '/mine/deep'],
    ['/mine/deep/', '/mine/deep'],
    ['/mine/../mine/deep', '/mine/deep'],
    [`${root}/mine/deep`, '/mine/deep'],
    [root, '/'],
    ['/', '/'],
    ['app.service', /may be any of .*user-1.*user-2.*name the path/],
    ['absent', /no running unit or control group is called absent/],
    ['/absent', /there is no control group \/absent/],
    ['/mine/../../etc', /there is no control group \/etc/],
  ];
  for (const [words, expected] of cases) {
    if (typeof expected === 'string') t.equal(findScope(words, root), expected, words);
    else t.throws(() => findScope(words, root), { code: 'ERR_USAGE', message: expected }, words);
  }
  t.end();
});

t.test('who serves the swap is never inside it', (t) => {
  const inside = [
    { what: 'memnode', group: '/a/memnode.service' },
    { what: 'this command', group: '/user.slice/session-1.scope' },
    { what: 'process 1', group: '/init.scope' },
    { what: 'nobody', group: undefined },
  ];
  const cases: [string, RegExp | undefined][] = [
    ['/', /whole machine/],
    ['/memcloud.slice', /memcloud\.slice is for the daemon/],
    ['/memcloud.slice/x.service', /memcloud\.slice/],
    ['/memcloud-run-7', /belongs to a memcloud command/],
    ['/memcloud-kit-7', /belongs to a memcloud command/],
    ['/a', /\/a holds memnode/],
    ['/a/memnode.service', /holds memnode/],
    ['/a/memnode.service2', undefined],
    ['/a/memnode', undefined],
    ['/user.slice', /holds this command/],
    ['/init.scope', /holds process 1/],
    ['/system.slice/nightly.service', undefined],
  ];
  for (const [scope, problem] of cases) {
    const found = scopeProblem(scope, inside);
    if (problem === undefined) t.equal(found, undefined, scope);
    else t.match(found, problem, scope);
  }
  t.end();
});

function limited(
  t: Test,
  files: Record<string, string>,
): { group: ScopedGroup; read: () => object } {
  const root = tree(t, ['/x']);
  const directory = path.join(root, 'x');
  const all = { 'memory.max': 'max', 'memory.high': '9000000', 'memory.swap.max': '0', ...files };
  for (const [name, text] of Object.entries(all)) {
    fs.writeFileSync(path.join(directory, name), `${text}\n`);
  }
  const read = (): object =>
    Object.fromEntries(
      ['memory.max', 'memory.high', 'memory.swap.max'].map((name) => [
        name,
        fs.readFileSync(path.join(directory, name), 'utf8').trim(),
      ]),
    );
  return { group: new ScopedGroup(directory), read };
}

t.test('limits are set, and given back as they were', async (t) => {
  const { group, read } = limited(t, {
    'memory.current': `${60 * MIB}`,
    'memory.swap.current': '4096',
  });
  const before = read();
  await group.limit({ memoryBytes: 64 * MIB, swapBytes: 8192 }, new AbortController().signal);
  t.same(read(), { ...before, 'memory.max': `${64 * MIB}`, 'memory.swap.max': '12288' });
  group.restore();
  t.same(read(), before);
  fs.writeFileSync(path.join(group.directory, 'memory.max'), '1');
  new ScopedGroup(group.directory, group.before).restore();
  t.same(read(), before, 'also by another process that was told what they were');
});

t.test('a group that uses more is squeezed first: memory.max would kill in it', async (t) => {
  const { group, read } = limited(t, { 'memory.current': `${200 * MIB}` });
  const current = path.join(group.directory, 'memory.current');
  const seen: number[] = [];
  const timer = setInterval(() => {
    // The kernel's part: what is above memory.high goes to swap.
    const high = fs.readFileSync(path.join(group.directory, 'memory.high'), 'utf8').trim();
    seen.push(Number(high) / MIB);
    if (Number(high) > 10 * MIB) fs.writeFileSync(current, `${high}\n`);
  }, 10);
  await group.limit({ memoryBytes: 64 * MIB, swapBytes: 2 ** 30 }, new AbortController().signal);
  clearInterval(timer);
  t.match(read(), { 'memory.max': `${64 * MIB}`, 'memory.high': `${64 * MIB}` });
  const expected = Array.from({ length: 17 }, (_, index) => 192 - 8 * index);
  const steps = [...new Set(seen.filter((high) => high > 10))];
  t.same(steps, expected.slice(0, steps.length), 'in steps of 8 MiB');
});

t.test('a squeeze can be ended, and leaves memory.max alone', async (t) => {
  const { group, read } = limited(t, { 'memory.current': `${200 * MIB}` });
  const ending = new AbortController();
  setTimeout(() => ending.abort(), 100);
  await t.rejects(group.limit({ memoryBytes: MIB, swapBytes: MIB }, ending.signal), {
    code: 'ERR_CANCELLED',
  });
  t.match(read(), { 'memory.max': 'max' });
});

t.test('a group that is gone has no limits to read, and none to restore', (t) => {
  const { group } = limited(t, {});
  fs.rmSync(group.directory, { recursive: true });
  t.equal(group.exists, false);
  group.restore();
  t.throws(() => new ScopedGroup(group.directory), { code: 'ERR_NATIVE' });
  t.end();
});
