/** What one user may do with what belongs to another: the nine bits, the sticky bit, search. */
import * as sys from '../../helpers/posix-calls.ts';
import { done, equal, refused, NOBODY, SOMEBODY } from '../case.ts';
import { type PosixCase, type PosixGroup, type Room } from '../case.ts';

const { O } = sys;

/** Mode, whose class the caller is in, what it may do. */
const bits: readonly PosixCase[] = [
  {
    name: 'the class of the caller decides: owner, group, others, in this order',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', '#!/bin/sh\n');
      done(sys.chown(path, NOBODY, 777));
      const callers = [
        { shift: 6, uid: NOBODY, gid: 777 },
        { shift: 3, uid: SOMEBODY, gid: 777 },
        { shift: 0, uid: SOMEBODY, gid: SOMEBODY },
      ];
      for (let mode = 0; mode < 512; mode += 7) {
        done(sys.chmod(path, mode));
        for (const { shift, uid, gid } of callers) {
          const may = (mode >> shift) & 7;
          sys.asUser(uid, gid, () => {
            for (const want of [4, 2, 1]) {
              const expected = (may & want) === want ? 0 : 'EACCES';
              equal(sys.outcome(sys.access(path, want)), expected, `${mode.toString(8)} ${want}`);
            }
            const reader = sys.open(path, O.RDONLY);
            equal(reader >= 0, (may & 4) !== 0);
            const writer = sys.open(path, O.WRONLY);
            equal(writer >= 0, (may & 2) !== 0);
            if (reader >= 0) sys.close(reader);
            if (writer >= 0) sys.close(writer);
          });
        }
      }
    },
  },
  {
    name: 'a group that comes second counts as the first does',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'x', 0o640);
      done(sys.chown(path, 0, 888));
      sys.asUser(NOBODY, NOBODY, () => refused(sys.open(path, O.RDONLY), 'EACCES'));
      sys.asUser(NOBODY, NOBODY, () => sys.close(done(sys.open(path, O.RDONLY))), [5, 888]);
    },
  },
  {
    name: 'a directory without search lets nothing below it be named, one without read be listed',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.directory('d', 0o744);
      room.file('d/f', 'x', 0o666);
      sys.asUser(NOBODY, NOBODY, () => {
        refused(sys.lstat(room.at('d/f')), 'EACCES');
        refused(sys.open(room.at('d/f'), O.RDONLY), 'EACCES');
        equal(sys.listDirectory(path), ['f']);
      });
      done(sys.chmod(path, 0o711));
      sys.asUser(NOBODY, NOBODY, () => {
        sys.close(done(sys.open(room.at('d/f'), O.RDONLY)));
        refused(sys.open(path, O.RDONLY | O.DIRECTORY), 'EACCES');
      });
    },
  },
  {
    name: 'a directory that may not be written takes and loses no names',
    needs: 'root',
    run: (room: Room): void => {
      room.directory('d', 0o755);
      room.file('d/f', 'x', 0o666);
      room.directory('open', 0o777);
      sys.asUser(NOBODY, NOBODY, () => {
        refused(sys.open(room.at('d/g'), O.CREAT | O.WRONLY), 'EACCES');
        refused(sys.mkdir(room.at('d/g')), 'EACCES');
        refused(sys.mknod(room.at('d/g'), sys.S_IF.FIFO | 0o600), 'EACCES');
        refused(sys.symlink('x', room.at('d/g')), 'EACCES');
        refused(sys.unlink(room.at('d/f')), 'EACCES');
        refused(sys.rename(room.at('d/f'), room.at('d/g')), 'EACCES');
        refused(sys.rename(room.at('d/f'), room.at('open/g')), 'EACCES');
        refused(sys.open(room.at('d'), O.TMPFILE | O.RDWR), 'EACCES');
        sys.close(done(sys.open(room.at('d/f'), O.WRONLY)));
      });
    },
  },
  {
    name: 'what a user makes belongs to the user and its group',
    needs: 'root',
    run: (room: Room): void => {
      room.directory('open', 0o777);
      sys.asUser(NOBODY, SOMEBODY, () => {
        sys.close(done(sys.open(room.at('open/f'), O.CREAT | O.WRONLY)));
        done(sys.mkdir(room.at('open/d')));
        done(sys.symlink('x', room.at('open/l')));
        done(sys.mknod(room.at('open/p'), sys.S_IF.FIFO | 0o600));
      });
      for (const name of ['f', 'd', 'l', 'p']) {
        const { uid, gid } = room.status(room.at(`open/${name}`));
        equal([uid, gid], [NOBODY, SOMEBODY], name);
      }
    },
  },
  {
    name: 'permission is judged at opening: a descriptor works on after chmod',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'x', 0o666);
      const fd = sys.asUser(NOBODY, NOBODY, () => done(sys.open(path, O.RDWR)));
      done(sys.chmod(path, 0));
      sys.asUser(NOBODY, NOBODY, () => {
        equal(sys.pwrite(fd, 'still', 0), 5);
        refused(sys.open(path, O.RDONLY), 'EACCES');
      });
      sys.close(fd);
    },
  },
  {
    name: 'a mode that root changed binds others at once, and root itself not',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.file('f', 'x', 0o644);
      for (let i = 0; i < 20; i += 1) {
        done(sys.chmod(path, i % 2 ? 0o600 : 0o644));
        sys.asUser(NOBODY, NOBODY, () => {
          equal(sys.outcome(sys.access(path, 4)), i % 2 ? 'EACCES' : 0);
        });
      }
      done(sys.chmod(path, 0));
      sys.close(room.open(path, O.RDWR));
    },
  },
];

const sticky: readonly PosixCase[] = [
  {
    name: 'in a sticky directory only the owner of a name or of the directory removes or moves it',
    needs: 'root',
    run: (room: Room): void => {
      const path = room.directory('t', 0o1777);
      for (const name of ['a', 'b', 'c']) {
        room.file(`t/${name}`, 'x', 0o666);
        done(sys.chown(room.at(`t/${name}`), NOBODY, NOBODY));
      }
      sys.asUser(NOBODY, NOBODY, () => done(sys.mkdir(room.at('t/d'))));
      sys.asUser(SOMEBODY, SOMEBODY, () => {
        refused(sys.unlink(room.at('t/a')), 'EPERM');
        refused(sys.rmdir(room.at('t/d')), 'EPERM');
        refused(sys.rename(room.at('t/a'), room.at('t/x')), 'EPERM');
        sys.close(done(sys.open(room.at('t/mine'), O.CREAT | O.WRONLY)));
        refused(sys.rename(room.at('t/mine'), room.at('t/a')), 'EPERM');
        refused(sys.rename(room.at('t/mine'), room.at('t/a'), sys.RENAME.EXCHANGE), 'EPERM');
      });
      sys.asUser(NOBODY, NOBODY, () => {
        done(sys.unlink(room.at('t/a')));
        done(sys.rename(room.at('t/b'), room.at('t/x')));
      });
      done(sys.chown(path, SOMEBODY, SOMEBODY));
      sys.asUser(SOMEBODY, SOMEBODY, () => done(sys.unlink(room.at('t/c'))));
    },
  },
  {
    name: 'a directory of another moves only within its parent when it may not be written',
    needs: 'root',
    run: (room: Room): void => {
      room.directory('open', 0o777);
      room.directory('open/d', 0o755);
      room.directory('open/e', 0o777);
      sys.asUser(NOBODY, NOBODY, () => {
        // Another parent means writing `..` in it, which the mode forbids.
        refused(sys.rename(room.at('open/d'), room.at('open/e/d')), 'EACCES');
        done(sys.rename(room.at('open/d'), room.at('open/f')));
      });
    },
  },
];

/** Permissions. */
export const permissions: PosixGroup[] = [
  { name: 'permissions', cases: bits },
  { name: 'sticky directories', cases: sticky },
];
