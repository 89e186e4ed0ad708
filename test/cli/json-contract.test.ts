/** docs/cli-json.md against the commands themselves: each field that it shows must come, of its type. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { documentedExamples, shapeOf } from '../helpers/json-contract.ts';
import { cannotMount } from '../helpers/mount-process.ts';
import { LabNode, eventually, labFolder, memcloud } from '../helpers/lab-node.ts';

t.test('each documented field comes, and of its type', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '256M' });
  const configFile = path.join(folder, 'consumer.toml');
  const written = `offer = 0\nconnect = ["${alpha.peerAddress}"]\n`;
  fs.writeFileSync(configFile, written);
  const consumer = await LabNode.start(t, { name: 'consumer', folder, configFile });
  fs.writeFileSync(configFile, `${written}lease-ttl = 60\n`);
  await consumer.waitForPeers(1);
  const wary = await LabNode.start(t, { name: 'wary', folder, autoTrust: false });
  await LabNode.start(t, { name: 'stranger', folder, connect: [wary.peerAddress] });
  await eventually('somebody is asked', async () => {
    return (await wary.use((client) => client.call('consent.list', {}))).length === 1;
  });
  const { socketPath } = consumer;
  const create = await memcloud(socketPath, 'volume', 'create', 'disk', '--size', '16M');
  t.equal(create.code, 0, create.stderr);
  const documented = documentedExamples();
  t.ok(documented.size >= 9, 'the document has examples');
  // The server first: what others print depends on it.
  const commands = [...documented.keys()].sort(
    (a, b) => Number(b.startsWith('nbd serve')) - Number(a.startsWith('nbd serve')),
  );
  const mountable = cannotMount();
  if (mountable === false) {
    const place = path.join(folder, 'files');
    fs.mkdirSync(place);
    const made = await memcloud(socketPath, 'mount', place, '--size', '16M');
    t.equal(made.code, 0, made.stderr);
    fs.writeFileSync(path.join(place, 'file'), Buffer.alloc(4096, 'memcloud'), { flush: true });
  } else t.comment(`mount ls is left out: ${mountable}`);
  for (const words of commands) {
    // test/cli/control-plane/json-contract.test.ts has them.
    if (words.startsWith('control-plane')) continue;
    if (words.startsWith('demo') || (mountable !== false && words === 'mount ls')) continue;
    const at = words === 'consent ls' ? wary.socketPath : socketPath;
    const ended = await memcloud(at, '--json', ...words.split(' '));
    t.equal(ended.stdout.split('\n').length, 2, `${words}: one line`);
    const value = JSON.parse(ended.stdout) as unknown;
    const seen = new Set(shapeOf(value));
    const missing = shapeOf(documented.get(words)).filter((field) => !seen.has(field));
    // Nothing is wrong with this daemon, so that no sentence about its health comes.
    t.same(
      missing.filter((field) => field !== '$.health[]: string'),
      [],
      words,
    );
    if (words.startsWith('nbd serve')) await writeOnePage(value as { uri: string });
  }
});

async function writeOnePage({ uri }: { uri: string }): Promise<void> {
  const { hostname, port } = new URL(uri);
  const nbd = await NbdClient.connect(
    { host: hostname, port: Number(port) },
    { exportName: 'disk' },
  );
  await nbd.write(0, Buffer.from('memcloud'.padEnd(4096, '0123456789')));
  await nbd.flush();
  await nbd.close();
}
