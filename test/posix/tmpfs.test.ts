/**
 * The oracle: the kernel's own tmpfs passes every case of the POSIX suite, so that a case which another
 * file system fails is a fault of that file system.
 */
import fs from 'node:fs';
import t from 'tap';
import { smallTmpfs, tmpfsBase } from '../helpers/tmpfs.ts';
import { runPosixSuite } from './run-suite.ts';

/** tmpfs has user attributes since Linux 6.6. */
const [major = 0, minor = 0] = fs
  .readFileSync('/proc/sys/kernel/osrelease', 'utf8')
  .split('.')
  .map(Number);
const skip = major > 6 || (major === 6 && minor >= 6) ? false : 'tmpfs before Linux 6.6 has less';

t.test('tmpfs passes the POSIX suite', { skip, timeout: 600_000 }, async (t) => {
  const directory = smallTmpfs(t, 1 << 30) ?? tmpfsBase(t);
  fs.chmodSync(directory, 0o755);
  await runPosixSuite(t, { directory, large: true });
});
