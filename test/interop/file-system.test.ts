/**
 * Programs that we did not write find nothing wrong with our mount: fio, stress-ng, and what people use.
 * The same on tmpfs first where a judge may itself be at fault.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { fuseMissing, startMount } from '../helpers/fuse-mount/start.ts';
import { requires } from '../helpers/judges.ts';
import { runRecipes } from '../helpers/recipes.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';
import { runFioVerify, runStressors } from './file-system-suite.ts';

const skip = fuseMissing() ?? false;

/** Judges a mount of 2 GiB over the memory of its own process, which must come out of it well. */
async function onMount(
  t: Test,
  profile: 'default' | 'build-cache',
  work: (directory: string) => Promise<void>,
): Promise<void> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-judged-'));
  const mount = await startMount({ directory, sizeBytes: 2 ** 31, profile, store: 'own' });
  t.teardown(async () => {
    await mount.stop();
    fs.rmdirSync(directory);
  });
  await work(directory);
  const { malformedCount, defectCount, refusedReplyCount } = await mount.status();
  t.same([malformedCount, defectCount, refusedReplyCount], [0, 0, 0], 'the server is well');
}

const oracle =
  process.env['RECIPES_TMPFS'] === '1' ? false : 'set RECIPES_TMPFS=1 to judge the judges';

t.test('the recipes come out right on tmpfs', { skip: oracle, timeout: 600_000 }, async (t) => {
  const base = tmpfsBase(t);
  fs.mkdirSync(`${base}/judged`);
  fs.mkdirSync(`${base}/elsewhere`);
  await runRecipes(t, `${base}/judged`, `${base}/elsewhere`);
});

// The other profile: test/e2e/mount-use.test.ts, on the pool.
t.test('the recipes on our mount, profile build-cache', { skip, timeout: 900_000 }, async (t) => {
  await onMount(t, 'build-cache', (directory) => runRecipes(t, directory, tmpfsBase(t), false));
});

t.test('fio verifies what it wrote', { skip, timeout: 900_000 }, async (t) => {
  await onMount(t, 'default', (directory) => runFioVerify(t, directory));
});

t.test(
  'the stressors of stress-ng find nothing',
  { skip: skip || requires('stress-ng').skip, timeout: 3_600_000 },
  async (t) => {
    await onMount(t, 'default', (directory) => runStressors(t, directory));
  },
);
