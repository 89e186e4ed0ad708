/** Units as they are written to a machine. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ALL_UNITS, renderUnit, unitWord, type UnitValues } from '../../../cli/service/units.ts';
import { judge, requires } from '../../helpers/judges.ts';

const VALUES: UnitValues = {
  daemon: ['/usr/bin/node', '/opt/m/daemon.js'],
  cli: ['/usr/bin/node', '/opt/m/cli.js'],
  root: '/opt/m',
};

function template(name: string): string {
  return fs.readFileSync(path.resolve('systemd', name), 'utf8');
}

t.test('a word is read back by systemd as it was', async (t) => {
  for (const [word, text] of [
    ['/usr/bin/node', '/usr/bin/node'],
    ['a b', '"a b"'],
    ['50%', '50%%'],
    ['$HOME', '$$HOME'],
    ['say "x" \\', '"say \\"x\\" \\\\"'],
    ["it's", '"it\'s"'],
    ['', '""'],
    [';', '";"'],
  ] as const) {
    t.equal(unitWord(word), text);
  }
  for (const wrong of ['a\nExecStart=/bin/sh', '\0', '\x1b']) {
    t.throws(() => unitWord(wrong), { code: 'ERR_USAGE' });
  }
});

t.test('programs and README of this installation', async (t) => {
  const daemon = renderUnit(template('memnode.service'), VALUES);
  t.match(daemon, /^ExecStart=\/usr\/bin\/node \/opt\/m\/daemon\.js$/m);
  t.match(daemon, /^ExecStop=\+\/usr\/bin\/node \/opt\/m\/cli\.js service swap-off /m);
  t.match(daemon, /^Documentation=file:\/\/\/opt\/m\/README\.md$/m);
  const control = renderUnit(template('memcloud-control.service'), VALUES);
  t.match(control, /^ExecStart=\/usr\/bin\/node \/opt\/m\/cli\.js control-plane$/m);
  t.match(control, /^Documentation=file:\/\/\/opt\/m\/docs\/control-plane\.md$/m);
  const swap = renderUnit(template('memcloud-swap.service'), VALUES);
  t.match(swap, /^ExecStart=\/usr\/bin\/node \/opt\/m\/cli\.js service swap-on$/m);
  for (const name of ALL_UNITS) {
    const text = renderUnit(template(name), VALUES);
    t.notMatch(text, /\/usr\/bin\/mem|\/usr\/share\/doc/, `${name} names nothing of a package`);
    t.equal(text.split('\n').length, template(name).split('\n').length);
  }
});

t.test('a program in a folder that systemd refuses', async (t) => {
  for (const program of ["/it's/node", '/"/node', '/\\/node']) {
    const values = { ...VALUES, cli: [program] };
    t.throws(() => renderUnit(template('memcloud-swap.service'), values), { code: 'ERR_USAGE' });
  }
});

/** A folder whose name has everything that a unit file treats in a way of its own. */
function strangePlace(t: Test): string {
  const folder = path.join(t.testdir(), 'my $HOME 100% (node)');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'node'), '#!/bin/sh\n', { mode: 0o755 });
  return folder;
}

t.test('systemd-analyze verify', requires('systemd-analyze'), async (t) => {
  const folder = strangePlace(t);
  const program = path.join(folder, 'node');
  const words = `${folder} "it's" \\ ; %n`;
  const values = { ...VALUES, daemon: [program, words], cli: [program, words], root: folder };
  const units = path.join(folder, 'units');
  fs.mkdirSync(units);
  for (const name of ALL_UNITS) {
    fs.writeFileSync(path.join(units, name), renderUnit(template(name), values));
  }
  const files = ALL_UNITS.map((name) => path.join(units, name));
  const { code, stdout, stderr } = await judge('systemd-analyze', ['verify', '--man=no', ...files]);
  t.strictSame({ code, said: stdout + stderr }, { code: 0, said: '' }, 'finds the programs');
});
