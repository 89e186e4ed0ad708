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
/** Bytes on a device, or in memory of the process that serves them, where reads are answered in place. */
type Store = 'pages' | 'own';

const skip = fuseMissing() ?? false;
const GIB = 2 ** 30;
/** An inode for each page: room for the files of the long form, twice. */
const SIZE_BYTES = Math.max(GIB, Number(process.env['POSIX_FILES'] ?? 0) * 8192);

/** A fresh mount, gone with the test. */
async function mounted(t: Test, profile: Profile, store: Store): Promise<FuseMount> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-posix-'));
  const mount = await startMount({
    directory,
    sizeBytes: store === 'own' ? SIZE_BYTES : GIB,
    profile,
    store,
  });
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

/** Why `build-cache` fails the cases on extended attributes: docs/mount.md says it to its users. */
const NO_ATTRIBUTES =
  'the profile has no extended attributes: the kernel would ask for one at every new file';

/** What differs from tmpfs, with the reason. */
const DIFFERENCES: Readonly<Record<Profile, Readonly<Record<string, string>>>> = {
  default: {},
  'build-cache': Object.fromEntries(
    [
      'user attributes: user attributes of files and directories are set, read, listed, changed, removed',
      'user attributes: XATTR_CREATE and XATTR_REPLACE refuse what is there and what is not',
      'user attributes: an empty value is a value; a buffer that is too small is ERANGE',
      'user attributes: names have 255 bytes at most, values 65536, and a name needs a space it lives in',
      'user attributes: a value of some KiB comes back, and fifty attributes are listed',
      'user attributes: attributes belong to the inode: seen by every name, gone with the file',
      'user attributes: setting and removing move ctime alone',
      'user attributes: reading needs read permission, setting write permission, trusted names root',
      'capabilities: security.capability is kept, and a write takes it away',
      'capabilities: cutting and a new owner take it away as well',
      'access control lists: a list lets one user in whom the mode keeps out, and shows as the group bits',
      'access control lists: chmod changes the mask of a list, and so shuts its users out',
      'access control lists: a default list is taken over by new files and directories, in place of the umask',
      'access control lists: a list that says no more than the mode becomes the mode',
      'access control lists: removing a list leaves the mode; a removed default list is taken over no more',
    ].map((name) => [name, NO_ATTRIBUTES]),
  ),
};

for (const profile of ['default', 'build-cache'] as const) {
  const options = { skip, timeout: 900_000 };
  t.test(`the POSIX suite, profile ${profile}`, options, async (t) => {
    const large = profile === 'default';
    const mount = await mounted(t, profile, large ? 'own' : 'pages');
    const directory = path.join(mount.directory, 'suite');
    fs.mkdirSync(directory);
    await runPosixSuite(t, { directory, large, differences: DIFFERENCES[profile] });
    t.same(fs.readdirSync(directory), [], 'nothing is left');
    await isHealthy(t, mount);
  });
}

t.test('random operations: no difference from tmpfs', { skip, timeout: 4_000_000 }, async (t) => {
  const mount = await mounted(t, 'default', 'own');
  const oracle = smallTmpfs(t, GIB) ?? tmpfsBase(t);
  await runModel(t, { oracle, judged: mount.directory, attributes: true }, 1);
  await isHealthy(t, mount);
});

t.test(
  'random operations by four processes at once, each profile',
  { skip, timeout: 4_000_000 },
  async (t) => {
    for (const profile of ['default', 'build-cache'] as const) {
      const attributes = profile === 'default';
      const mount = await mounted(t, profile, attributes ? 'pages' : 'own');
      const oracle = smallTmpfs(t, GIB) ?? tmpfsBase(t);
      await runModel(t, { oracle, judged: mount.directory, attributes }, 4);
      await isHealthy(t, mount);
    }
  },
);
