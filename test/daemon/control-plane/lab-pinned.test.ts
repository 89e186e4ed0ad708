/** A control node that is named by its key: whoever else answers at its address is none. */
import t from 'tap';
import { fingerprintOf } from '../../../common/fingerprint.ts';
import { LabControl } from '../../helpers/lab-control.ts';
import { LabNode, eventually, labFolder, memcloud } from '../../helpers/lab-node.ts';

/** As docs/errors.md has it: try again later. */
const EXIT_RETRY = 5;

t.test('a trusted node with another key at the address of a control node', async (t) => {
  const folder = labFolder(t);
  const [real, other] = await Promise.all(
    ['real', 'other'].map(async (name) => {
      const control = await LabControl.start(t, { name, folder });
      await control.waitForLeader();
      return control;
    }),
  );
  const trusted = [real!, other!].flatMap(({ nodeId }) => ['--trust-fingerprint', nodeId]);
  const start = async (name: string, target: string): Promise<LabNode> => {
    const flags = [...trusted, '--control-plane', target];
    const node = await LabNode.start(t, { name, folder, autoTrust: false, flags });
    await Promise.all([real!, other!].map((each) => each.addMember(node.nodeId, ['client'])));
    return node;
  };

  const right = await start('right', `${fingerprintOf(real!.nodeId)}@${real!.peerAddress}`);
  await eventually('the leader answers', async () => {
    const { connected, unpinned } = await right.use((rpc) => rpc.call('managed.status', {}));
    return connected && unpinned.length === 0;
  });

  const wrong = await start('wrong', `${real!.nodeId}@${other!.peerAddress}`);
  await eventually('the reason is told', async () => {
    const { connected, problem } = await wrong.use((rpc) => rpc.call('managed.status', {}));
    return !connected && /another key answers at .* It was told nothing/.test(problem);
  });
  const { cluster } = await wrong.use((rpc) => rpc.call('managed.status', {}));
  t.equal(cluster, '', 'nothing that it says counts');
  const refused = await memcloud(wrong.socketPath, 'lease', 'request', '16M');
  t.equal(refused.code, EXIT_RETRY, refused.stderr);

  const bare = await start('bare', real!.peerAddress);
  await eventually('the leader answers', async () => {
    return (await bare.use((rpc) => rpc.call('managed.status', {}))).connected;
  });
  const { stdout } = await memcloud(bare.socketPath, 'doctor');
  t.match(stdout, /any trusted node would be believed: no key is given/);
});
