/** The door of a control node follows the members (daemon/control-plane/members.ts). */
import t, { type Test } from 'tap';
import { MemcloudError } from '../../../common/errors.ts';
import { fingerprintOf, nodeIdOf } from '../../../common/fingerprint.ts';
import type { Logger } from '../../../common/log.ts';
import type { ControlMember } from '../../../common/rpc-control.ts';
import {
  MemberDoor,
  type MemberGrant,
  type MemberKey,
} from '../../../daemon/control-plane/members.ts';
import { ConsentQueue, type ConsentOutcome } from '../../../peer/consent.ts';
import type { PeerIdentity } from '../../../peer/credentials.ts';
import { TrustStore } from '../../../peer/trust.ts';

function peer(index: number, name = `node-${index}`): PeerIdentity {
  const publicKey = new Uint8Array(32).fill(index);
  return { publicKey, nodeId: nodeIdOf(publicKey), name };
}

function keyOf({ publicKey }: PeerIdentity): string {
  return Buffer.from(publicKey).toString('hex');
}

function member(who: PeerIdentity, name = who.name): MemberKey {
  return { publicKey: keyOf(who), pattern: keyOf(who), nodeId: who.nodeId, name };
}

function expected(pattern: string, name = ''): MemberKey {
  return { publicKey: '', pattern, nodeId: '', name };
}

/** A write of a member that the test lets end. */
interface Write {
  readonly key: string;
  readonly name: string;
  readonly grant: MemberGrant;
  readonly succeed: () => void;
  readonly fail: (error: MemcloudError) => void;
}

function rig(t: Test): {
  door: MemberDoor;
  trust: TrustStore;
  consent: ConsentQueue;
  writes: Write[];
  errors: string[];
} {
  const trust = TrustStore.inMemory();
  const consent = new ConsentQueue({ clock: { nowMs: () => 0 } });
  t.teardown(() => consent.close());
  const writes: Write[] = [];
  const errors: string[] = [];
  const logger: Logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: (_fields, message) => void errors.push(message),
    child: () => logger,
  };
  const put = (key: string, name: string, grant: MemberGrant): Promise<ControlMember> =>
    new Promise((resolve, reject) => {
      const nodeId = nodeIdOf(Buffer.from(key, 'hex'));
      const row = { nodeId, publicKey: key, name, roles: grant.roles, connected: false };
      const nothing = { quotaBytes: null, quotaLeases: null, usedBytes: 0, usedLeases: 0 };
      const succeed = (): void => resolve({ ...row, ...nothing });
      writes.push({ key, name, grant, succeed, fail: reject });
    });
  return { door: new MemberDoor({ trust, consent, put, logger }), trust, consent, writes, errors };
}

t.test('members are trusted, whoever is one no more is not', (t) => {
  const { door, trust, errors } = rig(t);
  const revoked: string[] = [];
  trust.onRevoked(({ nodeId }) => revoked.push(nodeId));
  const [one, two] = [peer(1), peer(2)];
  door.onMembers([member(one), member(two)]);
  t.equal(trust.check(one), 'trusted');
  t.equal(trust.check(two), 'trusted');
  t.equal(trust.check(peer(3)), 'unknown');
  door.onMembers([member(two)]);
  t.same(revoked, [one.nodeId], 'its sessions end');
  t.equal(trust.check(one), 'unknown');
  door.onMembers([member(two), member(one)]);
  t.equal(trust.check(one), 'trusted', 'and it may come again');
  t.same(errors, []);
  t.end();
});

t.test('a key is let in by words or id when it first comes, and put out with its member', (t) => {
  const { door, trust } = rig(t);
  const [one, two] = [peer(1), peer(2)];
  const words = expected(fingerprintOf(one.nodeId), 'first');
  door.onMembers([words, expected(two.nodeId)]);
  t.equal(trust.check(one), 'trusted');
  door.onMembers([words, expected(two.nodeId)]);
  t.equal(trust.check(one), 'trusted', 'the same list again changes nothing');
  door.onMembers([expected(two.nodeId)]);
  t.equal(trust.check(one), 'unknown');
  t.equal(trust.expected.length, 1);
  door.onMembers([]);
  t.equal(trust.check(two), 'unknown', 'also one that never came');
  t.same(trust.expected, []);
  t.end();
});

t.test('a member with the name of another one is let in under its number', (t) => {
  const { door, trust, errors } = rig(t);
  const [one, two, three] = [peer(1, 'worker'), peer(2, 'worker'), peer(3, '')];
  door.onMembers([member(one), member(two), member(three)]);
  t.same(
    trust.list().map(({ name }) => name),
    ['worker', `node-${two.nodeId.slice(0, 8)}`, `node-${three.nodeId.slice(0, 8)}`],
  );
  t.same(errors, []);
  t.equal(trust.check({ ...three, name: 'third' }), 'trusted', 'and is renamed when it comes');
  door.onMembers([member(one), member(two), member(three)]);
  t.equal(trust.entryOf(three.nodeId)?.name, 'third', 'and keeps the name that it has told');
  t.end();
});

t.test('who joins by an invitation is in while it is written, and stays when it is', async (t) => {
  const { door, trust, writes, errors } = rig(t);
  const one = peer(1);
  door.promise('a'.repeat(16), { roles: ['client'], quotaBytes: 5 });
  trust.trust(one);
  const joined = door.onJoined({ peer: one, invite: 'a'.repeat(16) });
  t.match(writes, [
    { key: keyOf(one), name: 'node-1', grant: { roles: ['client'], quotaBytes: 5 } },
  ]);
  door.onMembers([]);
  t.equal(trust.check(one), 'trusted', 'a list from before its write does not put it out');
  writes[0]?.succeed();
  await joined;
  t.equal(trust.check(one), 'trusted');
  door.onMembers([member(one)]);
  door.onMembers([]);
  t.equal(trust.check(one), 'unknown', 'later it is a member as any other');
  t.same(errors, []);
});

t.test('who joins and cannot be written is put out again, and the log says so', async (t) => {
  const { door, trust, writes, errors } = rig(t);
  const one = peer(1);
  door.promise('b'.repeat(16), { roles: ['provider'] });
  trust.trust(one);
  const joined = door.onJoined({ peer: one, invite: 'b'.repeat(16) });
  writes[0]?.fail(new MemcloudError('ERR_CONTROL_STORE', 'the store is away'));
  await joined;
  t.equal(trust.check(one), 'unknown');
  t.match(errors, [/joined but is no member.*the store is away/]);
  trust.trust(one);
  await door.onJoined({ peer: one, invite: 'c'.repeat(16) });
  t.equal(trust.check(one), 'unknown', 'an invitation without a role admits nobody');
  t.equal(writes.length, 1);
});

t.test('consent makes a member of the one who is meant, and lets it in', async (t) => {
  const { door, trust, consent, writes } = rig(t);
  const outcomes = new Map<string, ConsentOutcome>();
  const ask = (who: PeerIdentity): string => {
    const from = { address: `10.0.0.${who.publicKey[0]}:7070`, dialled: false };
    return consent.ask(who, from, (outcome) => outcomes.set(who.nodeId, outcome));
  };
  const [one, two, three] = [peer(1, 'twin'), peer(2, 'twin'), peer(3)];
  ask(one);
  const second = ask(two);
  ask(three);
  const grant = { roles: ['provider'] as const };
  await t.rejects(door.consentTo('nobody', grant), { code: 'ERR_PEER_UNKNOWN' });
  await t.rejects(door.consentTo('twin', grant), { code: 'ERR_USAGE' });
  for (const which of [fingerprintOf(one.nodeId), second]) {
    const done = door.consentTo(which, grant);
    writes.at(-1)?.succeed();
    await done;
  }
  t.same(
    [...outcomes],
    [
      [one.nodeId, 'trust'],
      [two.nodeId, 'trust'],
    ],
  );
  const refused = door.consentTo('node-3', grant);
  writes.at(-1)?.fail(new MemcloudError('ERR_CONTROL_NOT_LEADER', 'another one leads'));
  await t.rejects(refused, { code: 'ERR_CONTROL_NOT_LEADER' });
  t.equal(consent.list().length, 1, 'who could not be written waits on');
  t.equal(trust.check(three), 'unknown');
  door.onMembers([member(one), member(two), expected(fingerprintOf(three.nodeId))]);
  t.equal(outcomes.get(three.nodeId), 'trust', 'a member that waits is let in at once');
});
