/**
 * The POSIX suite through the transport `native`: the same file system behind fuse-native, with the
 * differences that the package makes, all of them and no more.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { loadFuseNative } from '../../fuse-fs/native-binding.ts';
import { fuseMissing, startMount } from '../helpers/fuse-mount/start.ts';
import { NATIVE_DIFFERENCES } from './native-differences.ts';
import { runPosixSuite } from './run-suite.ts';

/** Why it cannot be tried here. */
function whyNot(): string | false {
  try {
    loadFuseNative();
    return fuseMissing() ?? false;
  } catch (error) {
    return (error as Error).message;
  }
}

t.test('the POSIX suite through fuse-native', { skip: whyNot(), timeout: 900_000 }, async (t) => {
  const base = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-native-'));
  const mount = await startMount({ directory: base, sizeBytes: 2 ** 30, transport: 'native' });
  t.teardown(async () => {
    await mount.stop();
    fs.rmdirSync(base);
  });
  const directory = path.join(base, 'suite');
  fs.mkdirSync(directory);
  // libfuse 2 keeps a file without a name under a hidden one until it is closed.
  const differences = NATIVE_DIFFERENCES;
  await runPosixSuite(t, { directory, large: false, differences, mayLeaveFiles: true });
});
