/** Calls of the leader. */
import t from 'tap';
import type { ManagedLink } from '../../common/managed.ts';
import { MemcloudError } from '../../common/errors.ts';
import { encodeManagedError, encodeManagedResult } from '../../control-plane/messages.ts';
import { Outbox } from '../../control-plane/outbox.ts';
import { TestTime } from '../helpers/control-rig.ts';

const NODE = 'a'.repeat(32);
const END = { epoch: 1, leaseIds: [], reason: 'revoked' as const };

function makeOutbox(
  request: ManagedLink['request'],
  up = true,
): { outbox: Outbox; time: TestTime } {
  const time = new TestTime();
  const link: ManagedLink = { nodeId: NODE, name: 'anna', up, connected: up, request };
  const find = (nodeId: string): ManagedLink | undefined => (nodeId === NODE ? link : undefined);
  return { outbox: new Outbox({ find }, time.after), time };
}

t.test('an answer, a refusal, and what is neither', async (t) => {
  const bodies = [
    Buffer.from(encodeManagedResult('manage.end', { unknown: ['b'.repeat(32)] })),
    Buffer.from(encodeManagedError(new MemcloudError('ERR_CONTROL_NOT_LEADER', 'no'))),
    Buffer.from('{"result":{"unknown":7}}'),
  ];
  const { outbox } = makeOutbox(async () => bodies.shift()!);
  t.same(await outbox.ask(NODE, 'manage.end', END), { unknown: ['b'.repeat(32)] });
  await t.rejects(outbox.ask(NODE, 'manage.end', END), { code: 'ERR_CONTROL_NOT_LEADER' });
  await t.rejects(outbox.ask(NODE, 'manage.end', END), { code: 'ERR_CONTROL_PROTOCOL' });
});

t.test('a node without a session', async (t) => {
  const { outbox } = makeOutbox(async () => Buffer.alloc(0), false);
  await t.rejects(outbox.ask(NODE, 'manage.end', END), { code: 'ERR_PEER_UNREACHABLE' });
  await t.rejects(outbox.ask('b'.repeat(32), 'manage.end', END), { code: 'ERR_PEER_UNREACHABLE' });
});

t.test('a node that says nothing is waited for 1.75 s', async (t) => {
  let signal: AbortSignal | undefined;
  const { outbox, time } = makeOutbox((_body, aborted) => {
    signal = aborted;
    return new Promise(() => undefined);
  });
  const asked = outbox.ask(NODE, 'manage.end', END);
  time.advance(1749);
  t.equal(signal?.aborted, false);
  time.advance(1);
  await t.rejects(asked, { code: 'ERR_TIMEOUT', message: /anna did not answer in 1750 ms/ });
  t.equal(signal?.aborted, true);
});
