/** The units: systemd understands them, the README explains them, and the times fit the daemon. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { judge, requires } from '../helpers/judges.ts';

const FOLDER = path.resolve('systemd');
const SERVICE = 'memnode.service';
const SLICE = 'memcloud.slice';
const DROP_IN = 'memnode.service.d/offer.conf.example';

function read(name: string): string {
  return fs.readFileSync(path.join(FOLDER, name), 'utf8');
}

/** Directives in order, as `Name=value`. */
function directives(name: string): string[] {
  const lines = read(name).split('\n');
  return lines.filter((line) => /^[A-Z]/.test(line));
}

/** Units with programs that exist here, and the drop-in made active. */
function installed(t: Test): string {
  const folder = t.testdir({ bin: { memnode: '#!/bin/sh\n' }, 'memnode.service.d': {} });
  const program = path.join(folder, 'bin/memnode');
  fs.chmodSync(program, 0o755);
  for (const name of [SERVICE, SLICE, DROP_IN]) {
    const text = read(name).replaceAll('/usr/bin/memnode', program);
    fs.writeFileSync(path.join(folder, name.replace('.example', '')), text);
  }
  return folder;
}

/** The folders of the named units come first in the search, so that slice and drop-in are found. */
async function verify(folder: string): Promise<{ code: number; said: string }> {
  const units = [SLICE, SERVICE].map((name) => path.join(folder, name));
  const { code, stdout, stderr } = await judge('systemd-analyze', ['verify', '--man=no', ...units]);
  return { code, said: stdout + stderr };
}

t.test('systemd-analyze verify', requires('systemd-analyze'), async (t) => {
  t.test('has nothing to say of the units and the drop-in', async (t) => {
    t.strictSame(await verify(installed(t)), { code: 0, said: '' });
  });
  t.test('would have said it: it knows a wrong directive, value and program', async (t) => {
    const wrongs: [string, string, RegExp][] = [
      ['MemoryMin=', 'MemoryMinimum=', /'MemoryMinimum'/],
      ['KillMode=mixed', 'KillMode=gently', /Failed to parse/i],
      ['@pkey', '@pkeys', /@pkeys/],
    ];
    for (const [right, wrong, complaint] of wrongs) {
      const folder = installed(t);
      const file = path.join(folder, SERVICE);
      const text = fs.readFileSync(file, 'utf8');
      t.ok(text.includes(right), `${right} is there to be made wrong`);
      fs.writeFileSync(file, text.replace(right, wrong));
      t.match((await verify(folder)).said, complaint);
    }
    let folder = installed(t);
    const dropIn = path.join(folder, DROP_IN.replace('.example', ''));
    fs.writeFileSync(dropIn, fs.readFileSync(dropIn, 'utf8').replace('ExecStart=\n', ''));
    t.match((await verify(folder)).said, /more than one ExecStart/, 'the drop-in is read');
    folder = installed(t);
    fs.rmSync(path.join(folder, 'bin/memnode'));
    t.match((await verify(folder)).said, /memnode is not executable/);
  });
});

t.test('the README explains each directive of each unit, and no other', async (t) => {
  const readme = read('README.md');
  t.ok(readme.trimEnd().split('\n').length <= 40, 'at most 40 lines');
  const table = readme.split('\n').filter((line) => line.startsWith('| `'));
  const cells = table.map((line) => line.split('|')[1] ?? '');
  const explained = new Set(cells.flatMap((cell) => cell.match(/[A-Za-z]+/g) ?? []));
  const used = new Set(
    [SERVICE, SLICE, DROP_IN].flatMap(directives).map((line) => line.split('=')[0] ?? ''),
  );
  used.delete('ExecStart'); // the sentence on drop-ins has it
  t.match(readme, /`ExecStart`/);
  t.ok(used.size > 30, 'the directives were found');
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

t.test('the service is as safe for swap as it says', async (t) => {
  const lines = directives(SERVICE);
  for (const line of [
    'Type=exec',
    'ExecStart=/usr/bin/memnode',
    'MemorySwapMax=0',
    'LimitMEMLOCK=infinity',
    'OOMScoreAdjust=-1000',
    'StateDirectory=memcloud',
    'RuntimeDirectory=memcloud',
    'Slice=memcloud.slice',
  ]) {
    t.ok(lines.includes(line), line);
  }
  // daemon/main.ts gives itself 20 s; systemd may not kill it before.
  const stop = lines.find((line) => line.startsWith('TimeoutStopSec='));
  t.ok(Number(stop?.split('=')[1]) > 20, `${stop}`);
  // V8 writes the code that it runs; /dev/nbdN has to be seen.
  t.notMatch(lines.join('\n'), /MemoryDenyWriteExecute|PrivateDevices|EnvironmentFile/);
  const min = (name: string): string | undefined =>
    directives(name).find((line) => line.startsWith('MemoryMin='));
  t.equal(min(SLICE), min(SERVICE), 'the slice protects as much as its service asks for');
});
