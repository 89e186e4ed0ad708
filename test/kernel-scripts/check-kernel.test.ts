/** check-kernel.sh on made-up kernels: a tree of files that CHECK_ROOT points at. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';

const SCRIPT = path.resolve('kernel-scripts/check-kernel.sh');
const NAMES = [
  'nbd',
  'tls',
  'rfc7539(chacha20,poly1305)',
  'dm-crypt',
  'xts(aes)',
  'raid1',
  'zram',
  'zswap',
  'PSI',
  'cgroup v2 memory',
  'tmpfs noswap',
  'fuse',
];

interface Report {
  release: string;
  ok: boolean;
  checks: { check: string; state: string; finding: string; needed: boolean; use: string }[];
}

/** Files of a tree: path to content; a path that ends in / is a directory. */
type Tree = Readonly<Record<string, string | Buffer>>;

const BARE: Tree = { 'proc/sys/kernel/osrelease': '5.10.0-test\n' };
const FULL: Tree = {
  'proc/sys/kernel/osrelease': '6.3.0-test\n',
  'proc/filesystems': 'nodev\ttmpfs\n\text4\nnodev\tfuse\n',
  'proc/crypto': 'name         : rfc7539(chacha20,poly1305)\ndriver       : x\n',
  'proc/pressure/memory': 'some avg10=0.00\n',
  'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  'sys/module/nbd/': '',
  'sys/module/dm_crypt/': '',
  'sys/module/raid1/': '',
  'lib/modules/6.3.0-test/modules.builtin': 'kernel/net/tls/tls.ko\nkernel/mm/zswap.ko\nk/xts.ko\n',
  'lib/modules/6.3.0-test/modules.dep':
    'kernel/drivers/block/zram/zram.ko.xz: kernel/mm/zsmalloc.ko.xz\n',
};
const WITHOUT_NBD: Tree = Object.fromEntries(
  Object.entries(FULL).filter(([name]) => name !== 'sys/module/nbd/'),
);

function grow(t: Test, tree: Tree): string {
  const root = t.testdir();
  for (const [name, content] of Object.entries(tree)) {
    const file = path.join(root, name);
    fs.mkdirSync(name.endsWith('/') ? file : path.dirname(file), { recursive: true });
    if (!name.endsWith('/')) fs.writeFileSync(file, content);
  }
  return root;
}

function run(root: string, ...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(SCRIPT, args, {
    encoding: 'utf8',
    env: { ...process.env, CHECK_ROOT: root },
    timeout: 20_000,
  });
  return { code: status, out: stdout, err: stderr };
}

function report(root: string): Report {
  return JSON.parse(run(root, '--json').out) as Report;
}

function missing(root: string): string[] {
  return report(root).checks.flatMap(({ check, state }) => (state === 'missing' ? [check] : []));
}

t.test('a kernel with everything: all ok, exit 0', async (t) => {
  const root = grow(t, FULL);
  const { code, out, err } = run(root);
  t.equal(code, 0, err);
  const lines = out.trimEnd().split('\n');
  t.equal(lines.length, 12, 'one line each');
  for (const [at, name] of NAMES.entries()) {
    const plain = name.replace(/[()]/g, '\\$&');
    t.match(lines[at], new RegExp(`^ok +${plain} .*; for .{10}`), 'each says what it is for');
  }
  t.match(lines[6], /not loaded now; run: modprobe zram;/, 'a module on disk says how to load it');
  const { ok, release, checks } = report(root);
  t.strictSame([ok, release], [true, '6.3.0-test']);
  t.strictSame(
    checks.map(({ check }) => check),
    NAMES,
  );
  t.strictSame(
    checks.filter(({ needed }) => needed).map(({ check }) => check),
    ['nbd', 'cgroup v2 memory'],
  );
});

t.test('a bare kernel: all missing, each says what that costs, exit 9', async (t) => {
  const root = grow(t, BARE);
  const { code, out, err } = run(root);
  t.equal(code, 9);
  t.equal(err, '');
  for (const line of out.trimEnd().split('\n')) t.match(line, /^missing +\S.{40,}$/);
  t.strictSame(missing(root), NAMES);
  for (const { use } of report(root).checks) t.match(use, /^.{15,}$/);
  t.equal(report(root).ok, false);
});

t.test('an empty tree, without even a release, is judged too', async (t) => {
  const root = grow(t, {});
  t.equal(run(root).code, 9);
  t.equal(report(root).release, 'unknown');
});

const parts: [string, Tree, string[], number][] = [
  ['nbd alone decides', WITHOUT_NBD, ['nbd'], 9],
  ['no cgroup v2', { ...FULL, 'sys/fs/cgroup/cgroup.controllers': '' }, ['cgroup v2 memory'], 9],
  [
    'cgroup v2 whose memory controller is elsewhere',
    { ...FULL, 'sys/fs/cgroup/cgroup.controllers': 'cpu hugetlb memory_recursive\n' },
    ['cgroup v2 memory'],
    9,
  ],
  [
    'what is not needed does not change the exit status',
    {
      ...FULL,
      'proc/filesystems': 'nodev\ttmpfs\n\tfuseblk\n',
      'lib/modules/6.3.0-test/modules.dep':
        'kernel/fs/cuse.ko: kernel/drivers/block/zram/zram.ko\n',
    },
    ['zram', 'fuse'],
    0,
  ],
  [
    'the parts of the direct path, each on its own',
    {
      ...FULL,
      'proc/crypto': 'name         : xts(aes)\nname         : rfc7539xchacha20,poly1305x\n',
      'lib/modules/6.3.0-test/modules.builtin': 'k/zswap.ko\n',
    },
    ['tls', 'rfc7539(chacha20,poly1305)'],
    0,
  ],
  [
    'Linux 6.2 has no noswap',
    {
      ...FULL,
      'proc/sys/kernel/osrelease': '6.2.16\n',
      'lib/modules/6.2.16/modules.builtin': 'k/tls.ko\nk/zswap.ko\nk/zram.ko\nk/xts.ko\n',
    },
    ['tmpfs noswap'],
    0,
  ],
  [
    'Linux 10.0 is newer than 6.3',
    {
      ...FULL,
      'proc/sys/kernel/osrelease': '10.0-rc1\n',
      'lib/modules/10.0-rc1/modules.builtin': 'k/tls.ko\nk/zswap.ko\nk/zram.ko\nk/xts.ko\n',
    },
    [],
    0,
  ],
];
for (const [fact, tree, expected, code] of parts) {
  t.test(fact, async (t) => {
    const root = grow(t, tree);
    t.strictSame(missing(root), expected);
    t.equal(run(root).code, code);
  });
}

t.test('a kernel that carries its config: =y is there, =m without the file is not', async (t) => {
  const config = '# CONFIG_TLS is not set\nCONFIG_BLK_DEV_NBD=y\nCONFIG_ZRAM=m\nCONFIG_FUSE_FS=y\n';
  const zipped = grow(t, { ...BARE, 'proc/config.gz': gzipSync(config) });
  const expected = NAMES.filter((name) => name !== 'nbd' && name !== 'fuse');
  t.strictSame(missing(zipped), expected);
  const plain = grow(t, { ...BARE, 'boot/config-5.10.0-test': config });
  t.strictSame(missing(plain), expected, 'also from /boot');
  const broken = grow(t, { ...BARE, 'proc/config.gz': 'no gzip' });
  t.strictSame(missing(broken), NAMES, 'one that cannot be read says nothing');
});

t.test('a release with quotes cannot break the JSON', async (t) => {
  const root = grow(t, { 'proc/sys/kernel/osrelease': '6.1"\\x\n' });
  t.equal(report(root).release, '6.1x');
});

t.test('a wrong flag: usage on stderr, exit 2', async (t) => {
  const { code, out, err } = run(grow(t, FULL), '--yaml');
  t.equal(code, 2);
  t.equal(out, '');
  t.match(err, /usage: check-kernel\.sh \[--json\]/);
});
