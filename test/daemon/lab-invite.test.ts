/** Machines that come to trust each other without a question, and how they stop, with real processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { fingerprintOf } from '../../common/fingerprint.ts';
import type { ConsentInfo, StatusInfo, TrustInfo } from '../../common/rpc-schema.ts';
import {
  CLEAN_ENV,
  LabNode,
  eventually,
  labFolder,
  memcloud,
  memcloudJson,
} from '../helpers/lab-node.ts';
import { requires } from '../helpers/judges.ts';

const MEMCLOUD = path.join(import.meta.dirname, '../../cli/main.js');

interface Invited {
  token: string;
  invite: string;
}

function trustOf(t: Test, node: LabNode): Promise<TrustInfo[]> {
  return memcloudJson<TrustInfo[]>(t, node.socketPath, 'trust', 'ls');
}

/** `memcloud join -` with a token on stdin. */
async function joinByStdin(socketPath: string, token: string): Promise<number | null> {
  const child = spawn(process.execPath, [MEMCLOUD, '--socket', socketPath, 'join', '-'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: CLEAN_ENV,
    timeout: 40_000,
    killSignal: 'SIGKILL',
  });
  child.stdin.end(`${token}\n`);
  const [code] = (await once(child, 'close')) as [number | null];
  return code;
}

t.test('one line makes two machines trust each other; one revocation ends it', async (t) => {
  const folder = labFolder(t);
  const common = { folder, autoTrust: false };
  const [host, guest, third] = await Promise.all(
    ['host', 'guest', 'third'].map((name) => LabNode.start(t, { ...common, name, offer: '64M' })),
  );
  if (host === undefined || guest === undefined || third === undefined) throw new Error('three');
  const at = host.socketPath;
  const { token } = await memcloudJson<Invited>(t, at, 'invite', '--ttl', '5m');
  t.match(await memcloudJson(t, at, 'invite', 'ls'), [{ addresses: [host.peerAddress] }]);
  const mistyped = await memcloud('/nonexistent', 'join', `${token.slice(0, -1)}!`);
  t.match(mistyped, { code: 4, stderr: /no whole invitation/ }, 'refused before a daemon is asked');
  const joined = await memcloud(guest.socketPath, 'join', token, '--allow', '1M');
  t.match(joined, { code: 0, stderr: new RegExp(`they are: ${fingerprintOf(host.nodeId)}`) });
  t.match(await trustOf(t, host), [{ name: 'guest', decision: 'trusted' }]);
  t.match(await trustOf(t, guest), [{ name: 'host', decision: 'trusted' }]);
  const again = await memcloud(third.socketPath, 'join', token);
  t.match(again, { code: 4, stderr: /did not take the invitation/ }, 'it works once');
  t.same(await trustOf(t, third), [], 'and leaves no trust behind where it did not');

  const second = await memcloudJson<Invited>(t, at, 'invite');
  t.equal((await memcloud(at, 'invite', 'revoke', second.invite)).code, 0);
  t.equal((await memcloud(at, 'invite', 'revoke', second.invite)).code, 6);
  t.equal((await memcloud(third.socketPath, 'join', second.token)).code, 4);
  const fourth = await memcloudJson<Invited>(t, at, 'invite');
  t.equal(await joinByStdin(third.socketPath, fourth.token), 0);
  const logs = [host, guest, third].map((node) => node.log).join('');
  for (const { token: each } of [{ token }, second, fourth]) t.notOk(logs.includes(each.slice(5)));

  // guest and third come to know each other, then the host drops guest.
  const { token: between } = await memcloudJson<Invited>(t, guest.socketPath, 'invite');
  t.equal((await memcloud(third.socketPath, 'join', between)).code, 0);
  t.equal((await memcloud(at, 'trust', 'rm', 'guest')).code, 0);
  await eventually('third is told', async () => {
    const entries = await trustOf(t, third);
    return entries.some(({ name, revokedBy }) => name === 'guest' && revokedBy.includes('host'));
  });
  const status = await memcloudJson<StatusInfo>(t, third.socketPath, 'status');
  t.match(status.health.join('\n'), /host no longer trust guest/);
  t.match(await trustOf(t, third), [{ name: 'host' }, { name: 'guest', decision: 'trusted' }]);
});

t.test(
  'memcloud restart ends invitations that are open, and keeps whoever had joined',
  async (t) => {
    const folder = labFolder(t);
    const common = { folder, autoTrust: false };
    const [host, guest, late] = await Promise.all(
      ['host', 'guest', 'late'].map((name) => LabNode.start(t, { ...common, name, offer: '64M' })),
    );
    if (host === undefined || guest === undefined || late === undefined) throw new Error('three');
    const at = host.socketPath;
    const { token } = await memcloudJson<Invited>(t, at, 'invite');
    t.equal((await memcloud(guest.socketPath, 'join', token)).code, 0);
    const open = await memcloudJson<Invited>(t, at, 'invite', '--ttl', '1h');
    t.match(await memcloudJson(t, at, 'invite', 'ls'), [{ invite: open.invite }]);

    await host.restart(t);
    t.same(await memcloudJson(t, at, 'invite', 'ls'), [], 'none is open any more');
    const refused = await memcloud(late.socketPath, 'join', open.token);
    t.match(refused, { code: 4, stderr: /did not take the invitation/ });
    t.same(await trustOf(t, late), [], 'and nobody is trusted for it');
    t.match(await trustOf(t, host), [{ name: 'guest', decision: 'trusted' }]);
    await guest.waitForPeers(1);

    const fresh = await memcloudJson<Invited>(t, at, 'invite');
    t.equal((await memcloud(late.socketPath, 'join', fresh.token)).code, 0, 'a new one is taken');
  },
);

t.test('a key that is named is trusted whoever dials, a pin refuses any other', async (t) => {
  const folder = labFolder(t);
  const common = { folder, autoTrust: false };
  const lender = await LabNode.start(t, { ...common, name: 'lender', offer: '64M' });
  const borrower = await LabNode.start(t, { ...common, name: 'borrower' });
  const at = borrower.socketPath;
  const words = fingerprintOf(lender.nodeId);
  const wrong = fingerprintOf('00'.repeat(16));
  const pinned = await memcloud(at, 'peer', 'connect', lender.peerAddress, '--fingerprint', wrong);
  t.match(pinned, { code: 4, stderr: new RegExp(`they are: ${words}`) });
  t.same(await memcloudJson(t, lender.socketPath, 'consent', 'ls'), [], 'it saw nobody');
  const pin = ['--fingerprint', words];
  t.match(await memcloudJson(t, at, 'trust', 'add', words), { decision: 'expected' });
  const file = path.join(folder, 'named.toml');
  fs.writeFileSync(file, `trust-fingerprint = ["${fingerprintOf(borrower.nodeId)}"]\n`);
  const named = await LabNode.start(t, { ...common, name: 'named', configFile: file });
  await memcloud(at, 'trust', 'add', named.nodeId);
  t.equal((await memcloud(at, 'peer', 'connect', named.peerAddress)).code, 0);
  await borrower.waitForPeers(1);
  t.match(await trustOf(t, named), [{ name: 'borrower', decision: 'trusted' }]);
  const back = await memcloud(named.socketPath, 'trust', 'rm', 'borrower');
  t.match(back, { code: 2, stderr: /trust-fingerprint of the configuration/ });
  t.equal((await memcloud(named.socketPath, 'trust', 'rm', 'borrower', '--deny')).code, 0);
  t.match(await trustOf(t, named), [{ name: 'borrower', decision: 'denied' }]);
  t.equal((await memcloud(at, 'peer', 'connect', lender.peerAddress, ...pin)).code, 0);
  await eventually('the lender is asked', async () => {
    const asked = await memcloudJson<ConsentInfo[]>(t, lender.socketPath, 'consent', 'ls');
    return asked.some(({ fingerprint }) => fingerprint === fingerprintOf(borrower.nodeId));
  });
  const answer = ['consent', 'trust', fingerprintOf(borrower.nodeId)];
  t.equal((await memcloud(lender.socketPath, ...answer)).code, 0, 'by its words');
  t.equal((await memcloud(lender.socketPath, ...answer)).code, 6, 'nobody waits any more');
  await eventually('the session', async () => {
    const status = await memcloudJson<StatusInfo>(t, at, 'status');
    return status.peers.some(({ name, state }) => name === 'lender' && state === 'up');
  });
});

t.test('a thief of a name is refused in words on both screens', async (t) => {
  const folder = labFolder(t);
  const common = { folder, autoTrust: false };
  const host = await LabNode.start(t, { ...common, name: 'host' });
  const friend = await LabNode.start(t, { ...common, name: 'friend' });
  const { token } = await memcloudJson<Invited>(t, host.socketPath, 'invite');
  t.equal((await memcloud(friend.socketPath, 'join', token)).code, 0);
  await friend.end('SIGTERM');
  const restarted = await LabNode.start(t, { ...common, name: 'friend' });
  t.equal(restarted.nodeId, friend.nodeId, 'a restart changes no key (W5)');
  t.equal((await memcloud(restarted.socketPath, 'peer', 'connect', host.peerAddress)).code, 0);
  t.same(await memcloudJson(t, host.socketPath, 'consent', 'ls'), [], 'and nobody is asked again');
  const other = path.join(folder, 'elsewhere');
  fs.mkdirSync(other);
  const thief = await LabNode.start(t, { folder: other, name: 'friend', autoTrust: true });
  const connect = await memcloud(thief.socketPath, 'peer', 'connect', host.peerAddress);
  t.match(connect, { code: 4, stderr: /its name, "friend", is known there by another key/ });
  const { health } = await memcloudJson<StatusInfo>(t, host.socketPath, 'status');
  const sentence = health.join('\n');
  t.match(sentence, /REFUSED: .* calls itself "friend"/);
  t.match(sentence, new RegExp(`they are: ${fingerprintOf(thief.nodeId)}`));
  t.match(sentence, new RegExp(`trusted is: ${fingerprintOf(friend.nodeId)}`));
});

t.test(
  'memcloud consent asks on a terminal, one key an answer, until q',
  requires('script'),
  async (t) => {
    const folder = labFolder(t);
    const common = { folder, autoTrust: false };
    const host = await LabNode.start(t, { ...common, name: 'host' });
    const piped = await memcloud(host.socketPath, 'consent');
    t.match(piped, { code: 2, stderr: /consent ls/ }, 'without a terminal it says what to use');
    const words = [process.execPath, MEMCLOUD, '--socket', host.socketPath, 'consent'];
    const terminal = spawn('script', ['-qefc', `exec ${words.join(' ')}`, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: CLEAN_ENV,
    });
    t.teardown(() => terminal.kill('SIGKILL'));
    let screen = '';
    terminal.stdout.on('data', (chunk: Buffer) => (screen += chunk.toString()));
    const shows = (what: RegExp): Promise<void> =>
      eventually(`the screen shows ${what.source}`, async () => what.test(screen));
    await shows(/Nobody waits for consent/);
    const ask = async (name: string): Promise<LabNode> => {
      const node = await LabNode.start(t, { ...common, name, autoTrust: true });
      await memcloud(node.socketPath, 'peer', 'connect', host.peerAddress);
      await shows(
        new RegExp(`"${name}" asks[^]*they are: ${fingerprintOf(node.nodeId)}[^]*quit: $`),
      );
      return node;
    };
    await ask('unsure');
    terminal.stdin.write('s');
    await shows(/skipped; it waits/);
    const friend = await ask('friend');
    terminal.stdin.write('t');
    await shows(/"friend" \([a-z-]+\) is trusted/);
    await friend.waitForPeers(1);
    const foe = await ask('foe');
    terminal.stdin.write('d');
    await shows(/"foe" \([a-z-]+\) is denied/);
    const waiting = await memcloudJson<ConsentInfo[]>(t, host.socketPath, 'consent', 'ls');
    t.match(waiting, [{ name: 'unsure' }], 'what was skipped waits still, and was not asked again');
    t.equal(screen.match(/"unsure" asks/g)?.length, 1);
    const ended = once(terminal, 'close');
    terminal.stdin.write('q');
    t.same((await ended)[0], 0);
    const decided = await trustOf(t, host);
    t.match(decided, [
      { name: 'friend', decision: 'trusted' },
      { name: 'foe', decision: 'denied', nodeId: foe.nodeId },
    ]);
  },
);
