/**
 * memnode under the kit: it replaces itself while it starts, and whoever started it notices nothing.
 * The scheduling policy stands for the parts that need more rights than a container has.
 */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { LabNode, labFolder } from '../helpers/lab-node.ts';

/** Whether this process may set a real-time policy: CAP_SYS_NICE. */
function mayBeRealtime(): boolean {
  const bits = /^CapEff:\s*([0-9a-f]+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))?.[1];
  return ((BigInt(`0x${bits ?? '0'}`) >> 23n) & 1n) === 1n;
}

const skip = mayBeRealtime() ? false : 'CAP_SYS_NICE is missing';

t.test('it has the pid that was started, its options, and the policy', { skip }, async (t) => {
  const folder = labFolder(t);
  const configFile = path.join(folder, 'memnode.toml');
  fs.writeFileSync(configFile, 'realtime = 3\noffer = 0\n');
  const node = await LabNode.start(t, { name: 'kitted', folder, configFile });
  const status = await node.use((client) => client.call('status', {}));
  t.equal(status.pid, node.child.pid);
  t.equal(status.name, 'kitted');
  const part = status.kit.find((row) => row.part === 'realtime');
  t.match(part, { active: true, detail: /^(\d+) of \1 threads, priority 3$/ });
  t.match(node.log, /"msg":"kit"/);
  t.match(await node.end('SIGTERM'), { code: 0 });
});

t.test('--kit off changes nothing and says nothing', async (t) => {
  const folder = labFolder(t);
  const configFile = path.join(folder, 'memnode.toml');
  fs.writeFileSync(configFile, 'kit = "off"\nrealtime = 3\noffer = 0\n');
  const node = await LabNode.start(t, { name: 'plain', folder, configFile });
  const { kit } = await node.use((client) => client.call('status', {}));
  t.match(
    kit.find((row) => row.part === 'realtime'),
    { active: false },
  );
  t.notMatch(node.log, /"msg":"kit"/);
});
