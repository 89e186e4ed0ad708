/** Extended attributes, capabilities of programs, access control lists. */
import * as sys from '../../helpers/posix-calls.ts';
import { done, equal, holds, isLater, letTimePass, refused, NOBODY, SOMEBODY } from '../case.ts';
import { type PosixCase, type PosixGroup, type Room } from '../case.ts';

const { O } = sys;

function value(path: string, name: string): string | number {
  const got = sys.getxattr(path, name);
  return typeof got === 'number' ? sys.outcome(got) : got.toString('latin1');
}

/** Names in the user space alone: a security module may add names of its own. */
function userNames(path: string): string[] {
  const names = sys.listxattr(path);
  if (typeof names === 'number') throw new Error(`listxattr: ${sys.outcome(names)}`);
  return names.filter((name) => name.startsWith('user.'));
}

const user: readonly PosixCase[] = [
  {
    name: 'user attributes of files and directories are set, read, listed, changed, removed',
    run: (room: Room): void => {
      room.file('f');
      room.directory('d');
      for (const path of [room.at('f'), room.at('d')]) {
        done(sys.setxattr(path, 'user.one', 'first'));
        done(sys.setxattr(path, 'user.two', Buffer.from([0, 255, 10, 0])));
        equal(value(path, 'user.one'), 'first');
        equal(value(path, 'user.two'), '\0\xff\n\0');
        equal(userNames(path), ['user.one', 'user.two']);
        done(sys.setxattr(path, 'user.one', 'a longer value than before'));
        equal(value(path, 'user.one'), 'a longer value than before');
        equal(sys.xattrSize(path, 'user.one'), 26);
        done(sys.removexattr(path, 'user.one'));
        equal(value(path, 'user.one'), 'ENODATA');
        equal(userNames(path), ['user.two']);
      }
    },
  },
  {
    name: 'XATTR_CREATE and XATTR_REPLACE refuse what is there and what is not',
    run: (room: Room): void => {
      const path = room.file('f');
      refused(sys.setxattr(path, 'user.a', 'x', sys.XATTR.REPLACE), 'ENODATA');
      done(sys.setxattr(path, 'user.a', 'x', sys.XATTR.CREATE));
      refused(sys.setxattr(path, 'user.a', 'y', sys.XATTR.CREATE), 'EEXIST');
      done(sys.setxattr(path, 'user.a', 'z', sys.XATTR.REPLACE));
      equal(value(path, 'user.a'), 'z');
      refused(sys.removexattr(path, 'user.b'), 'ENODATA');
    },
  },
  {
    name: 'an empty value is a value; a buffer that is too small is ERANGE',
    run: (room: Room): void => {
      const path = room.file('f');
      done(sys.setxattr(path, 'user.empty', ''));
      equal(value(path, 'user.empty'), '');
      equal(userNames(path), ['user.empty']);
      done(sys.setxattr(path, 'user.ten', '0123456789'));
      const small = sys.getxattr(path, 'user.ten', 9);
      equal(typeof small === 'number' ? sys.outcome(small) : 'success', 'ERANGE');
    },
  },
  {
    name: 'names have 255 bytes at most, values 65536, and a name needs a space it lives in',
    run: (room: Room): void => {
      const path = room.file('f');
      const longest = `user.${'n'.repeat(250)}`;
      done(sys.setxattr(path, longest, 'x'));
      equal(value(path, longest), 'x');
      refused(sys.setxattr(path, `${longest}n`, 'x'), 'ERANGE');
      refused(sys.setxattr(path, 'user.', 'x'), 'EINVAL');
      refused(sys.setxattr(path, 'nowhere.x', 'x'), 'EOPNOTSUPP');
      refused(sys.setxattr(path, 'user.big', Buffer.alloc(65_537)), 'E2BIG');
      refused(sys.setxattr(room.at('missing'), 'user.a', 'x'), 'ENOENT');
    },
  },
  {
    name: 'a value of some KiB comes back, and fifty attributes are listed',
    run: (room: Room): void => {
      const path = room.file('f');
      const bytes = Buffer.alloc(4000, 'v');
      done(sys.setxattr(path, 'user.large', bytes));
      equal(value(path, 'user.large'), 'v'.repeat(4000));
      for (let i = 0; i < 50; i += 1) done(sys.setxattr(path, `user.n${i}`, `${i}`));
      equal(userNames(path).length, 51);
      for (let i = 0; i < 50; i += 1) equal(value(path, `user.n${i}`), `${i}`);
    },
  },
  {
    name: 'attributes belong to the inode: seen by every name, gone with the file',
    run: (room: Room): void => {
      room.file('f');
      done(sys.link(room.at('f'), room.at('g')));
      done(sys.setxattr(room.at('f'), 'user.a', 'x'));
      equal(value(room.at('g'), 'user.a'), 'x');
      done(sys.rename(room.at('g'), room.at('h')));
      equal(value(room.at('h'), 'user.a'), 'x');
      done(sys.unlink(room.at('f')));
      done(sys.unlink(room.at('h')));
      room.file('f');
      equal(value(room.at('f'), 'user.a'), 'ENODATA');
    },
  },
  {
    name: 'links and fifos take no user attributes',
    run: (room: Room): void => {
      done(sys.symlink('x', room.at('l')));
      done(sys.mknod(room.at('p'), sys.S_IF.FIFO | 0o600));
      refused(sys.setxattr(room.at('l'), 'user.a', 'x'), 'EPERM');
      refused(sys.setxattr(room.at('p'), 'user.a', 'x'), 'EPERM');
    },
  },
  {
    name: 'setting and removing move ctime alone',
    run: (room: Room): void => {
      const path = room.file('f');
      done(sys.utimens(path, [5, 0], [5, 0]));
      const first = room.status(path).ctime;
      letTimePass();
      done(sys.setxattr(path, 'user.a', 'x'));
      const second = room.status(path).ctime;
      letTimePass();
      done(sys.removexattr(path, 'user.a'));
      const third = room.status(path);
      holds(isLater(second, first), 'set');
      holds(isLater(third.ctime, second), 'remove');
      equal(third.mtime, [5, 0]);
    },
  },
  {
    name: 'reading needs read permission, setting write permission, trusted names root',
    needs: 'root',
    run: (room: Room): void => {
      const closed = room.file('f', 'x', 0o600);
      const open = room.file('g', 'x', 0o644);
      for (const path of [closed, open]) {
        done(sys.setxattr(path, 'user.a', 'x'));
        done(sys.setxattr(path, 'trusted.a', 'x'));
        equal(value(path, 'trusted.a'), 'x');
      }
      sys.asUser(NOBODY, NOBODY, () => {
        equal(value(closed, 'user.a'), 'EACCES');
        equal(value(open, 'user.a'), 'x');
        refused(sys.setxattr(open, 'user.a', 'y'), 'EACCES');
        refused(sys.setxattr(open, 'trusted.b', 'y'), 'EPERM');
        equal(value(open, 'trusted.a'), 'ENODATA');
      });
    },
  },
];

/** `struct vfs_cap_data`, revision 2: CAP_NET_BIND_SERVICE permitted, effective. */
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');

const capability: readonly PosixCase[] = [
  {
    name: 'security.capability is kept, and a write takes it away',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'program', 0o755);
      done(sys.setxattr(path, 'security.capability', CAPABILITY));
      const got = sys.getxattr(path, 'security.capability');
      equal(got, CAPABILITY);
      const fd = room.open(path, O.WRONLY);
      equal(sys.pwrite(fd, 'x', 0), 1);
      sys.close(fd);
      equal(value(path, 'security.capability'), 'ENODATA');
    },
  },
  {
    name: 'cutting and a new owner take it away as well',
    needs: 'root',
    run: (room: Room): void => {
      for (const change of [
        (path: string) => sys.truncate(path, 1),
        (path: string) => sys.chown(path, NOBODY, NOBODY),
      ]) {
        const path = room.file('f', 'program', 0o755);
        done(sys.setxattr(path, 'security.capability', CAPABILITY));
        done(change(path));
        equal(value(path, 'security.capability'), 'ENODATA');
        done(sys.unlink(path));
      }
    },
  },
  {
    name: 'only root sets it, and bad ones are refused',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'x', 0o777);
      done(sys.chown(path, NOBODY, NOBODY));
      refused(sys.setxattr(path, 'security.capability', Buffer.alloc(7)), 'EINVAL');
      sys.asUser(NOBODY, NOBODY, () => {
        refused(sys.setxattr(path, 'security.capability', CAPABILITY), 'EPERM');
      });
    },
  },
];

/** Tags of `struct posix_acl_xattr_entry`. */
const TAG = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 16, OTHER: 32 } as const;
type AclEntry = readonly [tag: number, permission: number, id?: number];

function acl(...entries: AclEntry[]): Buffer {
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(2, 0);
  entries.forEach(([tag, permission, id], i) => {
    bytes.writeUInt16LE(tag, 4 + 8 * i);
    bytes.writeUInt16LE(permission, 6 + 8 * i);
    bytes.writeUInt32LE(id ?? 0xffffffff, 8 + 8 * i);
  });
  return bytes;
}

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';

const lists: readonly PosixCase[] = [
  {
    name: 'a list lets one user in whom the mode keeps out, and shows as the group bits',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'secret', 0o600);
      const list = acl(
        [TAG.USER_OBJ, 6],
        [TAG.USER, 4, NOBODY],
        [TAG.GROUP_OBJ, 0],
        [TAG.MASK, 4],
        [TAG.OTHER, 0],
      );
      done(sys.setxattr(path, ACCESS, list));
      equal(sys.getxattr(path, ACCESS), list);
      equal(room.status(path).mode, 0o100640);
      sys.asUser(NOBODY, NOBODY, () => {
        sys.close(done(sys.open(path, O.RDONLY)));
        refused(sys.open(path, O.WRONLY), 'EACCES');
      });
      sys.asUser(SOMEBODY, SOMEBODY, () => refused(sys.open(path, O.RDONLY), 'EACCES'));
    },
  },
  {
    name: 'chmod changes the mask of a list, and so shuts its users out',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'secret', 0o600);
      done(
        sys.setxattr(
          path,
          ACCESS,
          acl(
            [TAG.USER_OBJ, 6],
            [TAG.USER, 6, NOBODY],
            [TAG.GROUP_OBJ, 0],
            [TAG.MASK, 6],
            [TAG.OTHER, 0],
          ),
        ),
      );
      sys.asUser(NOBODY, NOBODY, () => sys.close(done(sys.open(path, O.RDWR))));
      done(sys.chmod(path, 0o600));
      sys.asUser(NOBODY, NOBODY, () => refused(sys.open(path, O.RDONLY), 'EACCES'));
      const after = sys.getxattr(path, ACCESS);
      equal(
        after,
        acl(
          [TAG.USER_OBJ, 6],
          [TAG.USER, 6, NOBODY],
          [TAG.GROUP_OBJ, 0],
          [TAG.MASK, 0],
          [TAG.OTHER, 0],
        ),
      );
      done(sys.chmod(path, 0o640));
      sys.asUser(NOBODY, NOBODY, () => sys.close(done(sys.open(path, O.RDONLY))));
    },
  },
  {
    name: 'a default list is taken over by new files and directories, in place of the umask',
    needs: 'root',
    run: (room: Room): void => {
      const directory = room.directory('d');
      const list = acl(
        [TAG.USER_OBJ, 7],
        [TAG.USER, 7, NOBODY],
        [TAG.GROUP_OBJ, 5],
        [TAG.MASK, 7],
        [TAG.OTHER, 0],
      );
      done(sys.setxattr(directory, DEFAULT, list));
      const before = sys.umask(0o077);
      try {
        sys.close(room.open(room.at('d/f'), O.CREAT | O.WRONLY, 0o666));
        done(sys.mkdir(room.at('d/e'), 0o777));
        done(sys.mknod(room.at('d/p'), sys.S_IF.FIFO | 0o666));
      } finally {
        sys.umask(before);
      }
      equal(room.status(room.at('d/f')).mode, 0o100660);
      equal(room.status(room.at('d/e')).mode, 0o040770);
      equal(room.status(room.at('d/p')).mode, 0o010660);
      equal(sys.getxattr(room.at('d/e'), DEFAULT), list);
      equal(
        sys.getxattr(room.at('d/f'), ACCESS),
        acl(
          [TAG.USER_OBJ, 6],
          [TAG.USER, 7, NOBODY],
          [TAG.GROUP_OBJ, 5],
          [TAG.MASK, 6],
          [TAG.OTHER, 0],
        ),
      );
      done(sys.symlink('x', room.at('d/l')));
      equal(room.status(room.at('d/l')).mode, 0o120777);
    },
  },
  {
    name: 'a list that says no more than the mode becomes the mode',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'x', 0o600);
      done(sys.setxattr(path, ACCESS, acl([TAG.USER_OBJ, 7], [TAG.GROUP_OBJ, 5], [TAG.OTHER, 1])));
      equal(room.status(path).mode, 0o100751);
      equal(value(path, ACCESS), 'ENODATA');
    },
  },
  {
    name: 'removing a list leaves the mode; a removed default list is taken over no more',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.directory('d');
      const list = acl(
        [TAG.USER_OBJ, 7],
        [TAG.USER, 7, NOBODY],
        [TAG.GROUP_OBJ, 5],
        [TAG.MASK, 7],
        [TAG.OTHER, 5],
      );
      done(sys.setxattr(path, ACCESS, list));
      done(sys.setxattr(path, DEFAULT, list));
      done(sys.removexattr(path, ACCESS));
      done(sys.removexattr(path, DEFAULT));
      equal(value(path, ACCESS), 'ENODATA');
      equal(value(path, DEFAULT), 'ENODATA');
      equal(room.status(path).mode, 0o040775);
      room.file('d/f', '', 0o600);
      equal(value(room.at('d/f'), ACCESS), 'ENODATA');
    },
  },
  {
    name: 'bad lists, default lists of files, and lists by strangers are refused',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'x', 0o666);
      const plain = acl([TAG.USER_OBJ, 7], [TAG.GROUP_OBJ, 5], [TAG.OTHER, 1]);
      refused(sys.setxattr(path, ACCESS, Buffer.from('junk-junk')), 'EINVAL', 'EOPNOTSUPP');
      refused(sys.setxattr(path, ACCESS, acl([TAG.USER_OBJ, 7])), 'EINVAL');
      refused(sys.setxattr(path, ACCESS, acl([TAG.USER_OBJ, 8], [TAG.OTHER, 1])), 'EINVAL');
      refused(sys.setxattr(path, DEFAULT, plain), 'EACCES');
      sys.asUser(NOBODY, NOBODY, () => refused(sys.setxattr(path, ACCESS, plain), 'EPERM'));
    },
  },
];

/** Extended attributes. */
export const xattrs: PosixGroup[] = [
  { name: 'user attributes', cases: user },
  { name: 'capabilities', cases: capability },
  { name: 'access control lists', cases: lists },
];
