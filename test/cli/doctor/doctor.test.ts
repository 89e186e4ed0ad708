/** The command against real daemons: what it sees of a pool, and how it tells. */
import t from 'tap';
import type { CheckResult } from '../../../cli/doctor/finding.ts';
import { LabNode, labFolder, memcloud } from '../../helpers/lab-node.ts';

t.test('doctor sees peers up and down, the port, and copies that lack a lender', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '256M' });
  // Nobody listens on port 1.
  const connect = [alpha.peerAddress, '127.0.0.1:1'];
  const consumer = await LabNode.start(t, { name: 'consumer', folder, connect });
  await consumer.waitForPeers(1);
  const { socketPath } = consumer;
  await memcloud(socketPath, 'volume', 'create', 'disk', '--size', '16M', '--copies', '1');
  const asked = async (): Promise<CheckResult[]> => {
    const { code, stdout, stderr } = await memcloud(socketPath, '--json', 'doctor');
    const results = JSON.parse(stdout) as CheckResult[];
    const problems = results.some(({ level }) => level === 'problem');
    t.match({ code, stderr }, { code: problems ? 9 : 0, stderr: '' });
    return results;
  };
  const find = (results: CheckResult[], name: string): CheckResult | undefined =>
    results.find(({ check }) => check === name);
  const before = await asked();
  t.match(find(before, 'daemon'), { level: 'ok', finding: /answers as consumer$/ });
  t.match(find(before, 'peer alpha'), { level: 'ok' });
  t.match(find(before, 'peer 127.0.0.1:1'), { level: 'warning', finding: /ECONNREFUSED/ });
  t.match(find(before, 'peer port'), { level: 'ok', finding: /lends nothing/ });
  t.match(find(before, 'volume disk'), { level: 'ok', finding: '1 copy, 1 lender up' });
  for (const { check, level, fix } of before) t.equal(fix === '', level === 'ok', check);
  await alpha.end('SIGKILL');
  await consumer.waitForPeers(0);
  const after = await asked();
  t.match(find(after, 'peer alpha'), { level: 'warning', fix: /^memcloud peer connect 127/ });
  t.match(find(after, 'volume disk'), { level: 'warning', finding: /0 are up/ });
  const text = await memcloud(socketPath, 'doctor');
  t.match(text.stdout, /^warning {2}volume disk: .*\n {11}mend it: memcloud peer connect/m);
  const count = (level: string): number => after.filter((each) => each.level === level).length;
  const sum = `${count('ok')} ok, ${count('warning')} warnings, ${count('problem')} problems\n`;
  t.ok(text.stdout.endsWith(sum), sum);
});
