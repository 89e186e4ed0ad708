/** The process of a mount with a real kernel and real donors: bytes that are lost. Waits for deadlines. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import t from 'tap';
import {
  cannotMount,
  dropCaches,
  mounted,
  mountScene,
  read,
  sync,
  write,
} from '../../helpers/mount-process.ts';

const MIB = 2 ** 20;
const skip = cannotMount();

t.test('a donor that dies with the only copy is told of by EIO and status', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { providers: ['alpha'], sizeBytes: 32 * MIB });
  const file = path.join(at.directory, 'lost');
  await write(file, randomBytes(2 * MIB));
  await sync(file);
  dropCaches();
  await at.donors[0]!.end('SIGKILL');
  await t.rejects(read(file), { code: 'EIO' });
  t.equal(await mount.unmount({ lazy: true }), 'done');
  t.equal(await mount.ended(), 0);
});
