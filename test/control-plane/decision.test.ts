/** Steps of decisions. */
import t from 'tap';
import { decided, refused, Steps } from '../../control-plane/decision.ts';

t.test('a step that has much in it is followed by another', async (t) => {
  const steps = new Steps();
  for (let n = 0; n < 200; n += 1) steps.next.put(`k${n}`, { n });
  t.same(
    steps.list.map(({ changeCount }) => changeCount),
    [60, 60, 60, 20],
  );
  const { next: step } = steps;
  step.note('event', {});
  t.equal(step.changeCount, 21, 'a line of the log is a change');
  step.remove('k199');
  t.same(step.ops.get('k199'), { remove: 'k199' }, 'the last change of a key');
});

t.test('leases that go to one node for one reason are one message', async (t) => {
  const step = new Steps().next;
  step.send('end', 'p', 'l1', 'revoked');
  step.send('end', 'p', 'l2', 'revoked');
  step.send('end', 'p', 'l2', 'revoked');
  step.send('end', 'p', 'l3', 'released');
  step.send('ending', 'p', 'l1', 'revoked');
  t.same(step.messages, [
    { kind: 'end', to: 'p', leaseIds: ['l1', 'l2'], reason: 'revoked' },
    { kind: 'end', to: 'p', leaseIds: ['l3'], reason: 'released' },
    { kind: 'ending', to: 'p', leaseIds: ['l1'], reason: 'revoked' },
  ]);
  for (let n = 0; n < 600; n += 1) step.send('end', 'q', `m${n}`, 'revoked');
  const lengths = step.messages.flatMap((message) =>
    message.to === 'q' && 'leaseIds' in message ? [message.leaseIds.length] : [],
  );
  t.same(lengths, [256, 256, 88], 'as many as a message takes');
});

t.test('an answer or a refusal', async (t) => {
  t.same(decided(new Steps(), 7).answer, { value: 7 });
  const { answer } = refused(new Steps(), 'ERR_TOKEN', 'no');
  t.match('refusal' in answer && answer.refusal, { code: 'ERR_TOKEN', message: 'no' });
});
