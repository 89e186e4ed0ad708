/**
 * How packages get here. W16 of MemCloud in Rust: there installing is `curl | sh`, with no checksum and no
 * signature. Here npm compares each package with the hash in the lock file, and runs no code of any.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly resolved?: string; readonly integrity?: string }>
  >;
}

const ROOT = path.resolve('.');
const read = (name: string): string => fs.readFileSync(path.join(ROOT, name), 'utf8');

t.test('the launcher installs what the lock file names, and runs no script of a package', (t) => {
  const folder = t.testdir({
    'package-lock.json': '{}',
    bin: {
      node: '#!/bin/sh\n',
      npm: '#!/bin/sh\necho "$@" >> "$CALLS"\nmkdir -p dist node_modules\n',
    },
  });
  const programs = path.join(folder, 'bin');
  for (const name of fs.readdirSync(programs)) fs.chmodSync(path.join(programs, name), 0o755);
  const calls = path.join(folder, 'calls');
  const script = `. "${path.join(ROOT, 'kernel-scripts/build-if-stale.sh')}"; build_if_stale "${folder}"`;
  const { status, stderr } = spawnSync('sh', ['-euc', script], {
    env: { PATH: `${programs}:${process.env['PATH']}`, CALLS: calls },
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
  const [install, build, ...more] = fs.readFileSync(calls, 'utf8').trim().split('\n');
  t.match(install, /^ci --ignore-scripts /, 'not `install`, which would change the lock file');
  t.match(build, /^run .*build$/);
  t.same(more, []);
  t.end();
});

t.test('every package in the lock file has a hash, and comes from the registry', (t) => {
  const { packages } = JSON.parse(read('package-lock.json')) as Lock;
  const names = Object.keys(packages).filter((name) => name !== '');
  t.ok(names.length > 100, `${names.length} packages`);
  const wrong = names.filter((name) => {
    // Without `resolved` it is the registry's.
    const { resolved, integrity = '' } = packages[name]!;
    return resolved !== undefined || !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity);
  });
  t.same(wrong, []);
  t.end();
});

t.test('this package runs nothing when it is installed', (t) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const hooks = ['preinstall', 'install', 'postinstall', 'prepare', 'preprepare', 'postprepare'];
  t.same(
    hooks.filter((hook) => hook in scripts),
    [],
  );
  t.end();
});

t.test('no instruction and no script pipes a download into a shell', (t) => {
  const folders = ['docs', 'kernel-scripts', 'man', 'systemd', 'examples', 'cli'];
  const inside = folders.flatMap((folder) =>
    fs
      .readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name))),
  );
  const files = ['README.md', 'CONTRIBUTING.md', 'memcloud', 'memnode', ...inside];
  t.ok(files.length > 100);
  const piped = /\b(curl|wget)\b[^\n]*\|\s*(sudo\s+)?(ba|z|da)?sh\b/;
  t.match('curl -fsSL https://example.net/install.sh | sudo sh', piped, 'it would be found');
  const quoted = 'docs/memcloud-faults.md';
  t.same(
    files.filter((file) => file !== quoted && piped.test(read(file))),
    [],
  );
  t.end();
});
