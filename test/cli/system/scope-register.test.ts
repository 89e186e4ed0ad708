/** What a command that was killed leaves behind is found by the next one, and only that. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { liftAbandonedScope, restoreAbandonedScopes } from '../../../cli/scoped-swap.ts';
import { ScopeRegister } from '../../../cli/system/scope-register.ts';

const BEFORE = { 'memory.max': 'max', 'memory.high': '9000000', 'memory.swap.max': '0' };
const OURS = { 'memory.max': '1000', 'memory.high': '1000', 'memory.swap.max': '2000' };

interface Scene {
  folder: string;
  directory: string;
  register: ScopeRegister;
  limits: () => object;
}

/** A group with limits of ours, as a tree of files. */
function scene(t: Test): Scene {
  const base = t.testdir({ groups: { x: { ...OURS } }, register: {} });
  const directory = path.join(base, 'groups/x');
  const folder = path.join(base, 'register');
  const limits = (): object =>
    Object.fromEntries(
      Object.keys(BEFORE).map((name) => [
        name,
        fs.readFileSync(path.join(directory, name), 'utf8'),
      ]),
    );
  return {
    folder,
    directory,
    register: new ScopeRegister(folder, path.join(base, 'groups')),
    limits,
  };
}

/** Makes the entry of this process that of one that has ended. */
async function kill(folder: string): Promise<void> {
  const child = spawn('/bin/true');
  const { pid = 0 } = child;
  await new Promise((resolve) => child.once('close', resolve));
  fs.renameSync(path.join(folder, String(process.pid)), path.join(folder, String(pid)));
}

t.test('while the process lives nothing is abandoned, and it leaves no file', async (t) => {
  const { register, directory, folder } = scene(t);
  register.enter({ directory, before: BEFORE, device: '/dev/nbd0' });
  t.same(register.abandoned(), []);
  register.leave();
  t.same(fs.readdirSync(folder), []);
});

t.test('of a killed one the limits are given back, once', async (t) => {
  const { register, directory, folder, limits } = scene(t);
  register.enter({ directory, before: BEFORE, device: '/dev/no-such-swap' });
  await kill(folder);
  t.match(register.abandoned(), [{ directory, before: BEFORE, device: '/dev/no-such-swap' }]);
  restoreAbandonedScopes(register, 0);
  t.same(limits(), BEFORE);
  t.same(register.abandoned(), []);
  t.same(fs.readdirSync(folder), []);
});

t.test('a number that a later process has is still the killed one', async (t) => {
  const { register, directory, folder } = scene(t);
  register.enter({ directory, before: BEFORE, device: '/dev/nbd0' });
  const file = path.join(folder, String(process.pid));
  const text = fs.readFileSync(file, 'utf8');
  fs.writeFileSync(file, text.replace(/"started":"\d+"/, '"started":"1"'));
  t.equal(register.abandoned().length, 1);
});

t.test('before its swap goes off the group gets its limits, and no other does', async (t) => {
  const { register, directory, folder, limits } = scene(t);
  register.enter({ directory, before: BEFORE, device: '/dev/nbd7' });
  await kill(folder);
  liftAbandonedScope('/dev/nbd0', register);
  t.same(limits(), OURS);
  liftAbandonedScope('/dev/nbd7', register);
  t.same(limits(), BEFORE);
});

t.test('a group that is gone is no matter, and a file that is no entry neither', async (t) => {
  const { register, directory, folder } = scene(t);
  const other = path.join(path.dirname(directory), 'gone');
  register.enter({ directory: other, before: BEFORE, device: '/dev/nbd0' });
  await kill(folder);
  const good = { directory, before: BEFORE, device: '/dev/nbd0', started: '1' };
  const bad: Record<string, string> = {
    '1': '',
    '2': '{}',
    '3': JSON.stringify({ ...good, directory: '/etc' }),
    '4': JSON.stringify({ ...good, before: { ...BEFORE, 'memory.max': '1; x' } }),
    '5': JSON.stringify({ ...good, before: { 'memory.max': 'max' } }),
    '6': JSON.stringify({ ...good, device: 7 }),
    notes: JSON.stringify(good),
  };
  for (const [name, text] of Object.entries(bad)) fs.writeFileSync(path.join(folder, name), text);
  t.same(register.abandoned(), []);
  register.enter({ directory, before: BEFORE, device: '/dev/nbd0' });
  const own = String(process.pid);
  t.same(
    fs.readdirSync(folder).sort(),
    [...Object.keys(bad), own].sort(),
    'the gone one is dropped',
  );
});

t.test('without the folder there is nothing', async (t) => {
  t.same(new ScopeRegister('/no/such/folder').abandoned(), []);
});
