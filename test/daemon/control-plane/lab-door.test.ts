/** Real control nodes and memnodes: how a process starts and ends, and how members come in and go. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { fingerprintOf } from '../../../common/fingerprint.ts';
import { decodeInviteToken } from '../../../common/invite-token.ts';
import type { ControlMember } from '../../../common/rpc-control.ts';
import type { ConsentInfo, TrustInfo } from '../../../common/rpc-schema.ts';
import { MemcloudClient } from '../../../sdk/client.ts';
import { CONTROL_NODE, LabControl } from '../../helpers/lab-control.ts';
import {
  CLEAN_ENV,
  LabNode,
  eventually,
  labFolder,
  memcloud,
  memcloudJson,
  runProgram,
} from '../../helpers/lab-node.ts';
import { NotifyReceiver } from '../../helpers/notify-receiver.ts';

const MEMCLOUD = path.join(import.meta.dirname, '../../../cli/main.js');

function membersOf(t: Test, control: LabControl): Promise<ControlMember[]> {
  return control.cliJson<ControlMember[]>(t, 'members');
}

async function isUp(node: LabNode, nodeId: string): Promise<boolean> {
  const peers = await node.use((client) => client.call('peer.list', {}));
  return peers.some((peer) => peer.nodeId === nodeId && peer.state === 'up');
}

function waitUntilUp(node: LabNode, control: LabControl): Promise<void> {
  return eventually(`${node.name} is let in`, () => isUp(node, control.nodeId));
}

t.test(
  'it starts, says who it is, ends in order, and a kill leaves nothing in the way',
  async (t) => {
    const folder = labFolder(t);
    const first = await LabControl.start(t, { name: 'control', folder });
    await first.waitForLeader();
    t.equal(fs.statSync(first.socketPath).mode & 0o777, 0o600, 'its socket is its owner’s');
    const status = await first.call('admin.status');
    t.match(status, { store: `embedded:${path.join(folder, 'control/store')}`, members: 0 });
    const words = [CONTROL_NODE, '--state', path.join(folder, 'control')];
    const second = await runProgram([...words, '--listen', '127.0.0.1:0']);
    t.match(second, { code: 1, stderr: /control node with process id \d+ uses/ });
    t.same(await first.end('SIGKILL'), { code: null, signal: 'SIGKILL' });
    const again = await first.again(t);
    t.equal(again.nodeId, first.nodeId);
    t.equal(again.peerAddress, first.peerAddress);
    await again.waitForLeader();
    t.equal((await again.call('admin.status')).cluster, status.cluster);
    t.same(await again.end('SIGTERM'), { code: 0, signal: null });
    t.notOk(fs.existsSync(again.socketPath), 'the socket is gone');
    const third = await first.again(t);
    await third.use((client) => client.call('shutdown', {}));
    await eventually('it ends when it is asked to', () => third.child.exitCode === 0);
  },
);

t.test('as a service it is one process, which says how it is', async (t) => {
  const folder = labFolder(t);
  const manager = path.join(folder, 'notify');
  const receiver = new NotifyReceiver(t, manager);
  const socketPath = path.join(folder, 'c.sock');
  const words = ['--socket', socketPath, 'control-plane', '--state', path.join(folder, 'c')];
  const child = spawn(process.execPath, [MEMCLOUD, ...words, '--listen', '127.0.0.1:0'], {
    stdio: 'ignore',
    env: { ...CLEAN_ENV, NOTIFY_SOCKET: manager, WATCHDOG_USEC: '600000000' },
  });
  t.teardown(() => child.kill('SIGKILL'));
  const heard: string[] = [];
  const hears = (what: RegExp): Promise<void> =>
    eventually(what.source, () => {
      heard.push(...receiver.take());
      return heard.some((text) => what.test(text));
    });
  await hears(/^READY=1$/);
  await hears(/^WATCHDOG=1$/);
  await hears(/^STATUS=(leads, term 1|nobody leads); 0 members connected$/);
  const client = await MemcloudClient.connect(socketPath);
  t.teardown(() => client.close());
  t.equal(
    (await client.call('status', {})).pid,
    child.pid,
    'the command line has become the control node',
  );
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  t.same(await ended, [0, null]);
  await hears(/^STOPPING=1\nSTATUS=handing over/);
});

t.test('wrong options are told, all of them, before anything is started', async (t) => {
  const folder = labFolder(t);
  const wrong = ['--store', 'postgres://x', '--listen', 'nowhere', '--name', '_'];
  const ended = await runProgram([CONTROL_NODE, '--state', folder, ...wrong]);
  t.equal(ended.code, 2);
  for (const option of ['--store', '--listen', '--name'])
    t.match(ended.stderr, `${option}: expected`);
  const byCli = await memcloud(path.join(folder, 'x.sock'), 'control-plane', ...wrong);
  t.match(byCli, { code: 2, stderr: /--store: expected embedded:DIR or etcd:/ });
});

t.test(
  'an invitation makes a member with its role; removed, its sessions end at once',
  async (t) => {
    const folder = labFolder(t);
    const control = await LabControl.start(t, { name: 'control', folder });
    await control.waitForLeader();
    const node = await LabNode.start(t, { name: 'worker', folder, autoTrust: false });
    const unroled = await control.cli('invite');
    t.match(unroled, { code: 2, stderr: /expected --role/ });
    const words = ['invite', '--role', 'client,provider', '--quota', '64M', '--leases', '3'];
    const invited = await control.cliJson<{ token: string; invite: string }>(t, ...words);
    t.same(decodeInviteToken(invited.token).controlNodes, [], 'there is no other control node');
    t.match(await control.cliJson(t, 'invite', 'ls'), [{ invite: invited.invite }]);
    const joined = await memcloud(node.socketPath, 'join', invited.token);
    t.match(joined, { code: 0, stderr: /control-plane = \["[0-9a-f]{32}@127\.0\.0\.1:\d+"\]/ });
    await waitUntilUp(node, control);
    await eventually('it is a member', async () => (await membersOf(t, control)).length === 1);
    t.match(await membersOf(t, control), [
      { name: 'worker', nodeId: node.nodeId, roles: ['client', 'provider'] },
    ]);
    t.equal((await control.cli('member', 'rm', 'worker')).code, 0);
    await eventually('the session ends', async () => !(await isUp(node, control.nodeId)));
    t.same(await membersOf(t, control), []);
    t.same(await memcloudJson<TrustInfo[]>(t, control.socketPath, 'trust', 'ls'), []);
    t.notOk(control.log.includes(invited.token.slice(10)), 'the token is in no log');
  },
);

t.test('a key is let in by its words before it comes, and by consent when it waits', async (t) => {
  const folder = labFolder(t);
  const control = await LabControl.start(t, { name: 'control', folder });
  await control.waitForLeader();
  const connect = [control.peerAddress];
  const unknown = await LabNode.start(t, { name: 'unknown', folder, connect });
  const requests = (): Promise<ConsentInfo[]> => control.cliJson(t, 'consent', 'ls');
  await eventually('it waits', async () => (await requests()).length === 1);
  const trust = await memcloud(control.socketPath, 'consent', 'trust', 'unknown');
  t.match(trust, { code: 2, stderr: /a member has a role/ });
  const allow = ['consent', 'allow', fingerprintOf(unknown.nodeId), '--role', 'provider'];
  t.equal((await control.cli(...allow)).code, 0);
  await waitUntilUp(unknown, control);

  const named = await LabNode.start(t, { name: 'named', folder, connect });
  await eventually('it waits too', async () => (await requests()).length === 1);
  const words = fingerprintOf(named.nodeId);
  t.equal((await control.cli('member', 'add', words, '--role', 'client')).code, 0);
  await waitUntilUp(named, control);
  t.same(await requests(), []);

  const foe = await LabNode.start(t, { name: 'foe', folder, connect });
  await eventually('the third waits', async () => (await requests()).length === 1);
  t.equal((await control.cli('consent', 'deny', fingerprintOf(foe.nodeId))).code, 0);
  t.equal((await control.cli('consent', 'deny', 'foe')).code, 6);
  t.equal((await control.cli('invite', 'revoke', '00'.repeat(8))).code, 6);
  const wrongRole = await control.cli('member', 'add', foe.nodeId, '--role', 'king');
  t.match(wrongRole, { code: 2, stderr: /--role: expected some of client, provider, admin/ });
  const volume = await memcloud(control.socketPath, 'volume', 'ls');
  t.match(volume, { code: 1, stderr: /a control node, which lends and borrows nothing/ });
  const invite = await memcloud(named.socketPath, 'control-plane', 'invite', '--role', 'client');
  t.match(invite, { code: 1, stderr: /this is a memnode/ });
});
