/**
 * Consumer and providers with a network between them: each in a network namespace of its own. A
 * cable is pulled under load, and what a provider or somebody on the wire could see is searched for
 * a page that was stored.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { patternBytes } from '../helpers/judges.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';
import { CHUNK, readBack, volumeOf, write } from '../helpers/lab.ts';
import {
  Network,
  fileContains,
  memoryContains,
  skipWithoutNamespaces,
} from '../helpers/namespaces.ts';

const MIB = 2 ** 20;
const ROUNDS = 6;
const skip = skipWithoutNamespaces();

t.test('a pulled cable and curious eyes', { skip, timeout: 120_000 }, async (t) => {
  const folder = labFolder(t);
  const network = new Network(t);
  const nodes: LabNode[] = [];
  for (const [index, name] of ['alpha', 'beta', 'consumer'].entries()) {
    const { address, launcher } = network.machine(index + 1);
    const offer = name === 'consumer' ? '0' : '256M';
    const connect = name === 'consumer' ? nodes.map(({ peerAddress }) => peerAddress) : [];
    const listen = `${address}:7070`;
    nodes.push(await LabNode.start(t, { name, folder, offer, listen, connect, launcher }));
  }
  const [alpha, beta, consumer] = nodes;
  if (alpha === undefined || beta === undefined || consumer === undefined) throw new Error('nodes');
  await consumer.waitForPeers(2);
  const unixPath = path.join(folder, 'disk.sock');
  await consumer.use(async (client) => {
    await client.call('volume.create', { name: 'disk', sizeBytes: 64 * MIB, copies: 2 });
    await client.call('nbd.serve', { name: 'disk', unixPath });
  });
  const nbd = await NbdClient.connect({ path: unixPath }, { exportName: 'disk' });
  t.teardown(() => nbd.close());

  await t.test('a page is nowhere but at its owner', async (t) => {
    const file = path.join(folder, 'wire.pcap');
    const { stop } = await network.capture(t, file);
    const needle = randomBytes(32);
    // Half canary, half counter: neither is the page a run of one word, nor are two pages equal.
    const canary = Buffer.alloc(4 * MIB);
    for (let at = 0; at < canary.length; at += 64) {
      needle.copy(canary, at);
      canary.writeUInt32LE(at, at + 32);
    }
    await write(nbd, canary);
    t.match(await readBack(nbd, canary), { wrong: 0, errors: [] });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await stop();
    t.ok(fs.statSync(file).size > 8 * MIB, 'the capture saw both copies go by');
    t.equal(fileContains(file, needle), false, 'not on the wire');
    for (const provider of [alpha, beta]) {
      const pid = provider.child.pid ?? 0;
      // Its memory file system is mounted where only its own mount namespace shows it.
      const directory = `/proc/${pid}/root${await provider.memoryDirectory()}`;
      const files = fs.readdirSync(directory).map((name) => path.join(directory, name));
      t.ok(
        files.reduce((sum, name) => sum + fs.statSync(name).blocks * 512, 0) >= 4 * MIB,
        `${provider.name} does hold pages`,
      );
      for (const name of files) t.equal(fileContains(name, needle), false, `not in ${name}`);
      t.equal(memoryContains(pid, needle), false, `not in the memory of ${provider.name}`);
    }
    t.equal(memoryContains(process.pid, needle), true, 'the search finds what is there');
  });

  await t.test('a cable pulled under load costs no byte and no error', async (t) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const bytes = patternBytes(128 * CHUNK, round + 1);
      const writing = write(nbd, bytes);
      if (round === 1) network.cable(1, 'down');
      await writing;
      t.same(await readBack(nbd, bytes), { right: 128, wrong: 0, errors: [] }, `round ${round}`);
    }
    await eventually('the volume is told to be degraded', async () => {
      return (await volumeOf(consumer)).health === 'degraded';
    });
    network.cable(1, 'up');
    await consumer.use((client) => client.call('peer.list', {}));
    await eventually(
      'the provider is back',
      async () => {
        const peers = await consumer.use((client) => client.call('peer.list', {}));
        return peers.every(({ state }) => state === 'up');
      },
      45_000,
    );
    const last = patternBytes(128 * CHUNK, 99);
    await write(nbd, last);
    t.same(await readBack(nbd, last), { right: 128, wrong: 0, errors: [] }, 'and afterwards');
  });
  await nbd.close();
});
