/**
 * Cases that fail through the transport `native`, each with the reason: what the package fuse-native
 * (libfuse 2, calls by path) leaves out or gets wrong. docs/mount-differences.md tells it to users.
 */

const RENAME_FLAGS = 'libfuse 2 has no flags of rename';
const FALLOCATE = 'fuse-native has no fallocate';
const TIMES = 'fuse-native passes the time of access twice, in milliseconds, and no time alone';
const LISTS = 'libfuse 2 does not negotiate access control lists';
const CALLER = 'fuse-native does not tell who calls: what is made belongs to the one who mounted';
const TEXT_NAMES = 'fuse-native takes names for UTF-8';
const TEMPORARY = 'libfuse 2 has no O_TMPFILE';

/** Why, by `group: case`. */
export const NATIVE_DIFFERENCES: Readonly<Record<string, string>> = {
  'unlink: a directory that was removed while open is gone to its readers and takes no new names':
    'libfuse 2 asks by path, and there is no path any more',
  'names and paths: every byte but NUL and slash is a name of its own': TEXT_NAMES,
  'names and paths: names that are not UTF-8 are renamed, linked, listed and removed as they are':
    TEXT_NAMES,
  'readdir: entries tell inode numbers and types, `.` and `..` among them':
    'fuse-native lists names alone',
  ...Object.fromEntries(
    ['in one directory', 'across directories'].flatMap((where) =>
      [
        'file onto nothing without replacing',
        'directory onto nothing without replacing',
        'file onto file in exchange',
        'file onto directory in exchange',
        'full onto file in exchange',
        'full onto full in exchange',
        'link onto directory in exchange',
      ].map((name) => [
        `rename ${where}: ${name}${where.startsWith('across') ? ', across directories' : ''}: ok`,
        RENAME_FLAGS,
      ]),
    ),
  ),
  'symbolic links: the owner and times of a link are its own': TIMES,
  'O_TMPFILE: O_TMPFILE makes a file with no name that goes with its descriptor': TEMPORARY,
  'O_TMPFILE: linkat gives such a file a name, by /proc and AT_SYMLINK_FOLLOW': TEMPORARY,
  'O_TMPFILE: with O_EXCL such a file can never have a name': TEMPORARY,
  'fallocate: fallocate makes the file longer, reads zeroes, and takes room': FALLOCATE,
  'fallocate: fallocate leaves bytes that are there, and a longer file, as they are': FALLOCATE,
  'fallocate: with KEEP_SIZE the size stays, also behind the end': FALLOCATE,
  'fallocate: punched ranges read zeroes, whole pages of them give room back, the size stays':
    FALLOCATE,
  'fallocate: more than the whole file system is ENOSPC or EFBIG, and leaves the room as it was':
    FALLOCATE,
  'SEEK_DATA and SEEK_HOLE: SEEK_DATA and SEEK_HOLE find the edges of holes':
    'fuse-native has no lseek: to the kernel all is data',
  'SEEK_DATA and SEEK_HOLE: a punched range is a hole': FALLOCATE,
  'large offsets: near the largest offset a write is done or EFBIG, never another file, never a hang':
    'libfuse 2 answers EINVAL itself',
  'large offsets: sizes near 2^63 are taken or EFBIG, and fallocate there is done or refused':
    FALLOCATE,
  'times: times before 1970, past 2038 and to the year 9999 keep every nanosecond': TIMES,
  'times: UTIME_OMIT leaves a time, UTIME_NOW sets the clock, both move ctime': TIMES,
  'times: times that were set stay, after bytes that were written before are synced and closed':
    TIMES,
  'times: writing, growing and cutting move mtime and ctime; reading moves neither': FALLOCATE,
  'modes and owners: a write by another takes set-user-id, and set-group-id where the group may run it':
    FALLOCATE,
  'modes and owners: names in a set-group-id directory take its group; directories the bit as well':
    CALLER,
  'access control lists: a list lets one user in whom the mode keeps out, and shows as the group bits':
    LISTS,
  'access control lists: chmod changes the mask of a list, and so shuts its users out': LISTS,
  'access control lists: a default list is taken over by new files and directories, in place of the umask':
    LISTS,
  'access control lists: a list that says no more than the mode becomes the mode': LISTS,
  'access control lists: removing a list leaves the mode; a removed default list is taken over no more':
    LISTS,
  'permissions: what a user makes belongs to the user and its group': CALLER,
};
