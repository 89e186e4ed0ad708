/**
 * The POSIX suite through fuse-native: what differs from tmpfs is known, case by case, with the reason,
 * which is libfuse 2 or the package each time; and everything else holds.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { loadFuseNative } from '../../fuse-fs/native-binding.ts';
import { fuseMissing, startMount } from '../helpers/fuse-mount/start.ts';
import { runPosixSuite } from './run-suite.ts';

function missing(): string | undefined {
  try {
    loadFuseNative();
    return fuseMissing();
  } catch (error) {
    return (error as Error).message;
  }
}

const among = (group: string, reason: string, ...names: string[]): [string, string][] =>
  names.map((name) => [`${group}: ${name}`, reason]);

const LOST_TIMES =
  'the package hands the access time on twice, in milliseconds, and libfuse 2 drops one time alone';
const NOBODY_ASKS = 'the package does not say who asks: what is made belongs to root';
const NO_FLAGS = 'libfuse 2 has no flags of rename';
const kinds = [
  ...['file onto nothing without replacing', 'directory onto nothing without replacing'],
  ...[
    'file onto file in exchange',
    'file onto directory in exchange',
    'full onto file in exchange',
  ],
  ...['full onto full in exchange', 'link onto directory in exchange'],
];

const DIFFERENCES: Readonly<Record<string, string>> = Object.fromEntries([
  ...among(
    'unlink',
    'libfuse looks a directory up by its path, which is gone',
    'a directory that was removed while open is gone to its readers and takes no new names',
  ),
  ...among(
    'names and paths',
    'the package makes text of names, by UTF-8',
    'every byte but NUL and slash is a name of its own',
    'names that are not UTF-8 are renamed, linked, listed and removed as they are',
  ),
  ...among('rename in one directory', NO_FLAGS, ...kinds.map((kind) => `${kind}: ok`)),
  ...among(
    'rename across directories',
    NO_FLAGS,
    ...kinds.map((kind) => `${kind}, across directories: ok`),
  ),
  ...among('symbolic links', LOST_TIMES, 'the owner and times of a link are its own'),
  ...among(
    'O_TMPFILE',
    'libfuse 2 has no O_TMPFILE',
    'O_TMPFILE makes a file with no name that goes with its descriptor',
    'linkat gives such a file a name, by /proc and AT_SYMLINK_FOLLOW',
    'with O_EXCL such a file can never have a name',
  ),
  ...among(
    'fallocate',
    'the package has no fallocate',
    'fallocate makes the file longer, reads zeroes, and takes room',
    'fallocate leaves bytes that are there, and a longer file, as they are',
    'with KEEP_SIZE the size stays, also behind the end',
    'punched ranges read zeroes, whole pages of them give room back, the size stays',
    'more than the whole file system is ENOSPC or EFBIG, and leaves the room as it was',
  ),
  ...among(
    'SEEK_DATA and SEEK_HOLE',
    'libfuse 2 has neither lseek nor, here, fallocate',
    'SEEK_DATA and SEEK_HOLE find the edges of holes',
    'a punched range is a hole',
  ),
  ...among(
    'large offsets',
    'the package has no fallocate',
    'sizes near 2^63 are taken or EFBIG, and fallocate there is done or refused',
  ),
  ...among(
    'times',
    LOST_TIMES,
    'times before 1970, past 2038 and to the year 9999 keep every nanosecond',
    'UTIME_OMIT leaves a time, UTIME_NOW sets the clock, both move ctime',
    'times that were set stay, after bytes that were written before are synced and closed',
  ),
  ...among(
    'times',
    'the package has no fallocate',
    'writing, growing and cutting move mtime and ctime; reading moves neither',
  ),
  ...among(
    'modes and owners',
    'the package has no fallocate',
    'a write by another takes set-user-id, and set-group-id where the group may run it',
  ),
  ...among(
    'modes and owners',
    NOBODY_ASKS,
    'names in a set-group-id directory take its group; directories the bit as well',
  ),
  ...among(
    'access control lists',
    'libfuse 2 does not ask for ACLs: the kernel would not heed them',
    'a list lets one user in whom the mode keeps out, and shows as the group bits',
    'chmod changes the mask of a list, and so shuts its users out',
    'a default list is taken over by new files and directories, in place of the umask',
    'a list that says no more than the mode becomes the mode',
    'removing a list leaves the mode; a removed default list is taken over no more',
  ),
  ...among('permissions', NOBODY_ASKS, 'what a user makes belongs to the user and its group'),
]);

t.test(
  'the POSIX suite through fuse-native',
  { skip: missing() ?? false, timeout: 900_000 },
  async (t) => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-posix-native-'));
    const mount = await startMount({ directory, sizeBytes: 2 ** 30, transport: 'native' });
    t.teardown(async () => {
      await mount.stop();
      fs.rmdirSync(directory);
    });
    const suite = path.join(directory, 'suite');
    fs.mkdirSync(suite);
    await runPosixSuite(t, { directory: suite, large: false, differences: DIFFERENCES });
  },
);
