/** What is left of a file system when its mount has gone without a word. */
import t from 'tap';
import { FileSystemRig, ROOT } from '../helpers/file-system-rig.ts';

const ENOENT = -2;
const ESTALE = -116;

t.test('what has no name ends with the mount, what has one stays, handles are gone', (t) => {
  const rig = new FileSystemRig();
  const { fs } = rig;
  const kept = rig.file(1, 'kept');
  const open = rig.file(1, 'open');
  const looked = rig.file(1, 'looked');
  const directory = fs.makeDirectory(ROOT, 1, 'd', 0o755, 0);
  const temporary = fs.makeTemporary(ROOT, 1, 0o644, 0);
  const handles = [fs.open(open, 0), fs.open(kept, 0), fs.open(temporary, 0)];
  const list = fs.openDirectory(directory);
  t.ok([...handles, list].every((fh) => fh > 0));
  t.equal(fs.unlink(1, 'open'), 0);
  t.equal(fs.unlink(1, 'looked'), 0);
  t.equal(fs.removeDirectory(1, 'd'), 0);
  t.equal(fs.inodeCount, 6, 'the kernel may still ask for them');
  fs.disconnect();
  t.equal(fs.inodeCount, 2, 'the root and the file with a name');
  for (const gone of [open, looked, temporary, directory]) {
    t.equal(fs.lookup(gone, 'x'), ESTALE);
  }
  t.equal(fs.lookup(1, 'kept'), kept);
  t.equal(fs.lookup(1, 'open'), ENOENT);
  t.ok(fs.openDirectory(1) > 0, 'another mount goes on');
  t.equal(fs.unlink(1, 'kept'), 0);
  fs.forget(kept, 1);
  t.equal(fs.inodeCount, 1, 'its one lookup was that of the new mount');
  t.end();
});
