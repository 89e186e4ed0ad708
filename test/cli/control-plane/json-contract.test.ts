/** docs/cli-json.md against the commands of a control plane: each field that it shows must come, of its type. */
import t from 'tap';
import { documentedExamples, shapeOf } from '../../helpers/json-contract.ts';
import { LabControl } from '../../helpers/lab-control.ts';
import { LabNode, eventually, labFolder, memcloud } from '../../helpers/lab-node.ts';

t.test('each documented field comes, and of its type', async (t) => {
  const folder = labFolder(t);
  const control = await LabControl.start(t, { name: 'control', folder });
  await control.waitForLeader();
  const common = { folder, autoTrust: false, flags: control.memberFlags };
  const [alpha, worker] = await Promise.all([
    LabNode.start(t, { ...common, name: 'alpha', offer: '64M' }),
    LabNode.start(t, { ...common, name: 'worker' }),
  ]);
  await control.addMember(alpha.nodeId, ['provider']);
  await control.addMember(worker.nodeId, ['client'], { quotaBytes: 32 * 2 ** 20 });
  await control.waitForProvider(alpha, 'up', 20_000);
  await control.waitForMember(worker);
  const leased = await memcloud(worker.socketPath, 'lease', 'request', '8M');
  t.equal(leased.code, 0, leased.stderr);
  const documented = documentedExamples();
  const commands = [...documented.keys()].filter((words) => words.startsWith('control-plane'));
  t.ok(commands.length >= 7, 'the document has examples');
  for (const words of commands) {
    const ended = await memcloud(control.socketPath, '--json', ...words.split(' '));
    t.equal(ended.stdout.split('\n').length, 2, `${words}: one line`);
    const seen = new Set(shapeOf(JSON.parse(ended.stdout)));
    const missing = shapeOf(documented.get(words)).filter((field) => !seen.has(field));
    t.same(missing, [], words);
  }
  const words = ['revoke', '--client', 'worker'];
  t.same(
    await control.cliJson(t, ...words),
    { revoked: 1, unknown: [] },
    'by the name of a client',
  );
  await eventually('the receipt of what was wiped is checked', async () => {
    const { receipts } = await control.cliJson<{ receipts: { valid: number } }>(
      t,
      ...['audit', '--verify'],
    );
    return receipts.valid === 1;
  });
  const none = await control.cliJson(t, 'revoke', '--provider', alpha.nodeId);
  t.same(none, { revoked: 0, unknown: [] }, 'or on a provider, where none is left');
});
