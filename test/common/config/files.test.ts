/** Which files count for root and for others. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { findConfigFiles } from '../../../common/config/files.ts';

const isRoot = process.geteuid?.() === 0;

/** Runs `work` as somebody else, where that can be done. */
function asUser<T>(work: () => T): T {
  if (!isRoot) return work();
  process.seteuid?.(65534);
  try {
    return work();
  } finally {
    process.seteuid?.(0);
  }
}

t.test("a user's own files come after the machine's, root has none of its own", (t) => {
  const base = fs.mkdtempSync('/tmp/mc-config-');
  t.teardown(() => fs.rmSync(base, { recursive: true }));
  fs.chmodSync(base, 0o755);
  const own = path.join(base, 'memcloud');
  fs.mkdirSync(path.join(own, 'config.d'), { recursive: true });
  fs.writeFileSync(path.join(own, 'config.toml'), '');
  fs.writeFileSync(path.join(own, 'config.d/b.toml'), '');
  fs.writeFileSync(path.join(own, 'config.d/a.toml'), '');
  const env = { XDG_CONFIG_HOME: base };
  const machine = asUser(() => findConfigFiles(undefined, { XDG_CONFIG_HOME: '/nowhere' })).files;
  t.same(
    asUser(() => findConfigFiles(undefined, env)),
    {
      files: [...machine, `${own}/config.toml`, `${own}/config.d/a.toml`, `${own}/config.d/b.toml`],
      problems: [],
    },
  );
  for (const file of machine) t.match(file, /^\/etc\/memcloud\//);
  const relative = asUser(() => findConfigFiles(undefined, { XDG_CONFIG_HOME: 'x' })).files;
  t.notOk(
    relative.some((file) => file.startsWith('x')),
    'a relative path is to be ignored',
  );
  if (isRoot) t.same(findConfigFiles(undefined, env).files, machine);
  t.end();
});

t.test('a folder that may not be read is told of', { skip: !isRoot && 'wants root' }, (t) => {
  const base = fs.mkdtempSync('/tmp/mc-config-');
  t.teardown(() => fs.rmSync(base, { recursive: true }));
  fs.chmodSync(base, 0o755);
  fs.mkdirSync(path.join(base, 'config.d'), { mode: 0o700 });
  t.same(
    asUser(() => findConfigFiles(base, {})),
    {
      files: [],
      problems: [{ file: `${base}/config.d`, message: 'cannot read the folder: EACCES' }],
    },
  );
  t.end();
});
