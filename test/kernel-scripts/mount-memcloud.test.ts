/** The helper of mount(8): how it translates options, and how long it waits. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { judge } from '../helpers/judges.ts';

const HELPER = path.resolve('kernel-scripts/mount.memcloud');

/** A memcloud that writes down its words and ends as it is told, the first times with another code. */
function fake(
  t: Test,
  code: number,
  firstCodes: readonly number[] = [],
): { run: Run; log: () => string[] } {
  const folder = t.testdir({ codes: firstCodes.map((each) => `${each}\n`).join('') });
  const program = path.join(folder, 'memcloud');
  const script = `#!/bin/bash
printf '%s\\n' "$*" >>'${folder}/log'
echo "said on stderr" >&2
code=$(head -1 '${folder}/codes'); sed -i 1d '${folder}/codes'
exit "\${code:-${code}}"
`;
  fs.writeFileSync(program, script, { mode: 0o755 });
  const run: Run = (...args) => judge('env', [`MEMCLOUD_PROGRAM=${program}`, HELPER, ...args]);
  const log = (): string[] => {
    const file = path.join(folder, 'log');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trimEnd().split('\n') : [];
  };
  return { run, log };
}

type Run = (...args: string[]) => ReturnType<typeof judge>;

t.test('options of mount(8) become words of memcloud', async (t) => {
  for (const [options, words] of [
    ['', 'mount /mnt/x'],
    ['rw,nofail,_netdev,noatime,x-systemd.requires=memnode.service', 'mount /mnt/x'],
    ['size=4G,copies=2', 'mount /mnt/x --size 4G --copies 2'],
    ['provider=a,provider=b,keep', 'mount /mnt/x --provider a --provider b --keep'],
    ['socket=/run/m.sock,allow_other', '--socket /run/m.sock mount /mnt/x --allow-other'],
    ['fuse_transport=native,mode=755', 'mount /mnt/x --fuse-transport native --mode 755'],
  ] as const) {
    const { run, log } = fake(t, 0);
    const args = options === '' ? [] : ['-o', options];
    t.match(await run('memcloud', '/mnt/x', ...args), { code: 0 }, options);
    t.strictSame(log(), [words]);
  }
});

t.test('what makes no sense is refused before anything is done', async (t) => {
  const { run, log } = fake(t, 0);
  for (const options of ['ro', 'remount', 'sise=4G', 'wait=soon']) {
    t.match(await run('memcloud', '/mnt/x', '-o', options), {
      code: 1,
      stderr: /^mount\.memcloud: /,
    });
  }
  t.match(await run('memcloud'), { code: 1, stderr: /^usage: / });
  t.match(await run('memcloud', '/mnt/x', '-r'), { code: 1 });
  t.match(await run('memcloud', '/mnt/x', '-f', '-o', 'size=1G'), { code: 0 }, 'only a check');
  t.strictSame(log(), []);
  t.match(await run('memcloud', '/mnt/x', '-s', '-o', 'sise=4G'), { code: 0 }, 'sloppy');
});

t.test('it waits for memnode and providers, and for nothing else', async (t) => {
  const patient = fake(t, 0, [3, 7]);
  t.match(await patient.run('memcloud', '/mnt/x', '-o', 'wait=20'), { code: 0 });
  t.equal(patient.log().length, 3);
  const hopeless = fake(t, 3);
  const late = await hopeless.run('memcloud', '/mnt/x', '-o', 'wait=1');
  t.match(late, { code: 32, stderr: /said on stderr/ });
  const wrong = fake(t, 2);
  t.match(await wrong.run('memcloud', '/mnt/x', '-o', 'wait=20'), { code: 1 });
  t.equal(wrong.log().length, 1);
});
