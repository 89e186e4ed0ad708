/**
 * Our mount passes the POSIX suite that tmpfs passes, in both profiles, and agrees with tmpfs through
 * random operations, by one process and by several at once. The mount is served over memory, by a process
 * of its own.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { fuseMissing, startMount, type FuseMount } from '../helpers/fuse-mount/start.ts';
import { smallTmpfs, tmpfsBase } from '../helpers/tmpfs.ts';
import { runModel } from './run-model.ts';
import { runPosixSuite } from './run-suite.ts';

type Profile = 'default' | 'build-cache';

const skip = fuseMissing() ?? false;
const GIB = 2 ** 30;

/** A fresh mount, gone with the test. */
async function mounted(t: Test, profile: Profile): Promise<FuseMount> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-posix-'));
  const mount = await startMount({ directory, sizeBytes: GIB, profile });
  t.teardown(async () => {
    await mount.stop();
    fs.rmdirSync(directory);
  });
  return mount;
}

/** No request was malformed, none broke the server, and the kernel took every reply. */
async function isHealthy(t: Test, mount: FuseMount): Promise<void> {
  const status = await mount.status();
  t.match(status, { malformedCount: 0, defectCount: 0, refusedReplyCount: 0 });
}

/** What differs from tmpfs where the kernel keeps no written pages, with the reason. */
const DIFFERENCES: Readonly<Record<Profile, Readonly<Record<string, string>>>> = {
  default: {},
  'build-cache': {},
};

for (const profile of ['default', 'build-cache'] as const) {
  const options = { skip, timeout: 900_000 };
  t.test(`the POSIX suite, profile ${profile}`, options, async (t) => {
    const mount = await mounted(t, profile);
    const directory = path.join(mount.directory, 'suite');
    fs.mkdirSync(directory);
    const large = profile === 'default';
    await runPosixSuite(t, { directory, large, differences: DIFFERENCES[profile] });
    t.same(fs.readdirSync(directory), [], 'nothing is left');
    await isHealthy(t, mount);
  });
}

t.test('random operations: no difference from tmpfs', { skip, timeout: 4_000_000 }, async (t) => {
  const mount = await mounted(t, 'default');
  const oracle = smallTmpfs(t, GIB) ?? tmpfsBase(t);
  await runModel(t, { oracle, judged: mount.directory }, 1);
  await isHealthy(t, mount);
});

t.test(
  'random operations by four processes at once, each profile',
  { skip, timeout: 4_000_000 },
  async (t) => {
    for (const profile of ['default', 'build-cache'] as const) {
      const mount = await mounted(t, profile);
      const oracle = smallTmpfs(t, GIB) ?? tmpfsBase(t);
      await runModel(t, { oracle, judged: mount.directory }, 4);
      await isHealthy(t, mount);
    }
  },
);
