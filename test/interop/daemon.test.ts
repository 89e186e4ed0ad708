/** A volume of a real consumer daemon on real provider daemons, before clients that we did not write. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { judge, requires } from '../helpers/judges.ts';
import { LabNode, MEMNODE, labFolder } from '../helpers/lab-node.ts';
import { judgeNbd } from './nbd-suite.ts';

const MIB = 2 ** 20;

async function served(t: Test, copies: number): Promise<string> {
  const folder = labFolder(t);
  const connect: string[] = [];
  for (const name of ['alpha', 'beta'].slice(0, copies)) {
    const node = await LabNode.start(t, { name, folder, offer: '512M' });
    connect.push(node.peerAddress);
  }
  const consumer = await LabNode.start(t, { name: 'consumer', folder, connect });
  await consumer.waitForPeers(copies);
  const unixPath = path.join(folder, 'v.sock');
  return consumer.use(async (client) => {
    await client.call('volume.create', { name: 'v', sizeBytes: 64 * MIB, copies });
    return (await client.call('nbd.serve', { name: 'v', unixPath })).uri;
  });
}

for (const copies of [1, 2]) {
  t.test(`a volume with ${copies} of each page`, async (t) => {
    await judgeNbd(t, { uri: await served(t, copies), sizeBytes: 64 * MIB });
  });
}

t.test('socket activation: nbdinfo and nbdcopy start memnode', requires('nbdcopy'), async (t) => {
  const folder = labFolder(t);
  const memnode = (state: string): string[] => [
    ...['[', process.execPath, MEMNODE, '--export', 't=64M', '--offer', '256M'],
    ...['--listen', '127.0.0.1:0', '--log-level', 'warn'],
    ...['--state', path.join(folder, state), '--socket', path.join(folder, `${state}.sock`), ']'],
  ];
  const size = await judge('nbdinfo', ['--size', '--', ...memnode('a')]);
  t.equal(size.stdout.trim(), '67108864', size.stderr);
  const info = await judge('nbdinfo', ['--', ...memnode('b')]);
  t.equal(info.code, 0, info.stderr);
  const uri = await served(t, 1);
  const copy = await judge('nbdcopy', ['--', ...memnode('c'), uri]);
  t.equal(copy.code, 0, copy.stderr);
});
