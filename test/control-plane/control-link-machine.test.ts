/** The search for the leader and the fate of calls, without time or sockets. */
import t from 'tap';
import { MemcloudError, type ErrorCode } from '../../common/errors.ts';
import { ControlLinkMachine, type LinkAction } from '../../control-plane/control-link-machine.ts';

const CLUSTER = 'c'.repeat(32);
const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const NAMES = { [A]: 'anna', [B]: 'bert' };

type Attempts = Map<string, number>;

/** What `control.hello` answers. */
function hello(nodeId: string, leads: boolean, epoch = 1, leader: string | null = null) {
  return {
    cluster: CLUSTER,
    controlNode: nodeId,
    name: NAMES[nodeId] ?? '',
    ...{ leads, leader: leads ? nodeId : leader, epoch },
    roles: ['client' as const],
    quotaBytes: null,
  };
}

const refused = (code: ErrorCode): MemcloudError => new MemcloudError(code, `refused: ${code}`);

/** A machine, with what it asked of whom, and a clock. */
class Rig {
  readonly machine = new ControlLinkMachine();
  readonly attempts: Attempts = new Map();
  /** Actions in words. */
  said: string[] = [];
  nowMs = 0;

  run(actions: readonly LinkAction[] | undefined): this {
    for (const action of actions ?? []) {
      if (action.do === 'hello') this.attempts.set(action.nodeId, action.attempt);
      const who = 'nodeId' in action ? ` ${NAMES[action.nodeId] ?? ''}` : '';
      const why = 'why' in action ? ` ${action.why}` : '';
      const id = 'id' in action ? ` ${action.id}` : '';
      const code = 'refusal' in action ? ` ${action.refusal.code}` : '';
      this.said.push(`${action.do}${id}${who}${why}${code}`);
    }
    return this;
  }

  see(...up: string[]): this {
    const seen = up.map((nodeId) => ({ nodeId, name: NAMES[nodeId] ?? '', up: true }));
    return this.run(this.machine.observe(seen, this.nowMs));
  }

  answer(nodeId: string, leads: boolean, epoch = 1, leader: string | null = null): this {
    const attempt = this.attempts.get(nodeId) ?? 0;
    const answer = hello(nodeId, leads, epoch, leader);
    return this.run(this.machine.onHello(nodeId, attempt, answer, this.nowMs));
  }

  refuse(nodeId: string, code: ErrorCode): this {
    const attempt = this.attempts.get(nodeId) ?? 0;
    return this.run(this.machine.onHelloFailed(nodeId, attempt, refused(code), this.nowMs));
  }

  add(id: number, call: 'lease.request' | 'provider.redeem' = 'lease.request', deadlineMs = 8000) {
    return this.run(this.machine.add(id, call, deadlineMs, this.nowMs));
  }

  /** Time passes in steps of the shell's. */
  until(nowMs: number): this {
    while (this.nowMs < nowMs) {
      this.nowMs += 50;
      this.run(this.machine.tick(this.nowMs));
    }
    return this;
  }

  /** What was said since. */
  take(): string[] {
    return this.said.splice(0);
  }
}

t.test('a connected control node is asked at once, and leads when it says so', (t) => {
  const rig = new Rig();
  t.same(rig.see().take(), [], 'nobody is there');
  t.same(rig.see(A).take(), ['hello anna']);
  t.equal(rig.machine.leader, undefined);
  t.notOk(rig.machine.isControlNode(A), 'it has not answered');
  t.same(rig.answer(A, true, 7).take(), ['tell-leader']);
  t.same(rig.machine.leader, { nodeId: A, name: 'anna', epoch: 7 });
  t.ok(rig.machine.isControlNode(A));
  t.equal(rig.machine.cluster, CLUSTER);
  t.same(rig.machine.roles, ['client']);
  t.equal(rig.machine.heardAtMs, 0);
  t.end();
});

t.test('a leader is asked now and then; without one all are asked often', (t) => {
  const rig = new Rig().see(A, B);
  t.same(rig.take(), ['hello anna', 'hello bert']);
  rig.answer(A, false).answer(B, false);
  t.same(rig.until(450).take(), []);
  t.same(rig.until(500).take(), ['hello anna', 'hello bert']);
  rig.answer(B, true, 2).answer(A, false, 2, B);
  t.same(rig.take(), ['tell-leader']);
  rig.until(1000);
  rig.answer(A, false, 2, B).answer(B, true, 2);
  rig.take();
  t.same(rig.until(5950).take(), []);
  t.same(rig.until(6000).take(), ['hello anna', 'hello bert']);
  t.end();
});

t.test('whoever is named as the leader is asked soon, and never in a storm', (t) => {
  const rig = new Rig().see(A, B);
  rig.answer(A, false).answer(B, false);
  rig.until(500).take();
  // Each names the other: both are behind.
  let asked = 0;
  for (const end = rig.nowMs + 1000; rig.nowMs < end; rig.until(rig.nowMs + 50)) {
    rig.answer(A, false, 1, B).answer(B, false, 1, A);
    asked += rig.take().length;
  }
  t.ok(asked <= 24, `${asked} questions in a second`);
  rig.answer(A, false, 2, B);
  rig.until(rig.nowMs + 100).answer(B, true, 2);
  t.equal(rig.machine.leader?.nodeId, B);
  t.end();
});

t.test('of two that say they lead the one of the higher term does', (t) => {
  const rig = new Rig().see(A, B);
  rig.answer(A, true, 3).take();
  t.same(rig.answer(B, true, 4).take(), ['tell-leader']);
  t.equal(rig.machine.leader?.nodeId, B);
  rig.until(500).answer(A, true, 3).answer(B, true, 4);
  t.equal(rig.machine.leader?.nodeId, B, 'the old one goes on claiming it');
  rig.see(A).take();
  t.equal(rig.machine.leader, undefined, 'the other is gone, and its term was the last');
  rig.until(1000).answer(A, true, 3);
  t.equal(rig.machine.leader, undefined);
  rig.until(1500).answer(A, true, 5);
  t.equal(rig.machine.leader?.nodeId, A);
  t.end();
});

t.test('a session that is new is told, though the leader is the same', (t) => {
  const rig = new Rig().see(A).answer(A, true);
  rig.take();
  rig.machine.sessionChanged(A, rig.nowMs);
  t.equal(rig.machine.leader, undefined);
  t.ok(rig.machine.isControlNode(A), 'that it is one was shown before');
  t.same(rig.see(A).take(), ['hello anna']);
  t.same(rig.answer(A, true).take(), ['tell-leader']);
  rig.machine.sessionChanged(B, rig.nowMs);
  t.same(rig.see(A).take(), [], 'that of somebody else means nothing');
  t.end();
});

t.test('an answer of a session before, or that came too late, counts no more', (t) => {
  const rig = new Rig().see(A);
  const late = rig.attempts.get(A) ?? 0;
  rig.machine.sessionChanged(A, 0);
  rig.see(A).take();
  rig.run(rig.machine.onHello(A, late, hello(A, true), 0));
  rig.run(rig.machine.onHelloFailed(A, late, refused('ERR_CONTROL_DENIED'), 0));
  t.equal(rig.machine.leader, undefined);
  rig.until(2950);
  t.same(rig.take(), [], 'it has three seconds');
  const slow = rig.attempts.get(A) ?? 0;
  t.same(rig.until(3000).take(), ['hello anna']);
  t.same(rig.run(rig.machine.onHello(A, slow, hello(A, true), 3000)).take(), []);
  t.equal(rig.machine.leader, undefined);
  t.end();
});

t.test('a leader that does not answer its hello leads no more', (t) => {
  const rig = new Rig().see(A).answer(A, true);
  rig.until(5000 + 3000);
  t.equal(rig.machine.leader, undefined);
  t.end();
});

t.test('a node of another control plane is not listened to', (t) => {
  const rig = new Rig().see(A, B).answer(A, false);
  const other = { ...hello(B, true, 9), cluster: 'd'.repeat(32) };
  rig.take();
  rig.run(rig.machine.onHello(B, rig.attempts.get(B) ?? 0, other, 0));
  t.same(rig.take(), ['warn-cluster bert']);
  t.equal(rig.machine.leader, undefined);
  t.notOk(rig.machine.isControlNode(B));
  rig.until(500);
  rig.take();
  rig.run(rig.machine.onHello(B, rig.attempts.get(B) ?? 0, other, 500));
  t.same(rig.take(), [], 'said once');
  t.end();
});

t.test('a node that answers no more at an address of ours is no control node', (t) => {
  const rig = new Rig().see(A).answer(A, true);
  rig.see(B);
  t.notOk(rig.machine.isControlNode(A));
  t.equal(rig.machine.leader, undefined);
  t.end();
});

t.test('calls wait for a leader, and go to it in order', (t) => {
  const rig = new Rig().see(A);
  rig.add(1).add(2);
  t.same(rig.take(), ['hello anna']);
  t.same(rig.answer(A, true).take(), ['tell-leader', 'send 1 anna', 'send 2 anna']);
  rig.machine.onAnswered(1, 10);
  t.equal(rig.machine.heardAtMs, 10);
  t.same(rig.add(3).take(), ['send 3 anna']);
  t.equal(rig.machine.callCount, 2);
  t.end();
});

t.test('a call without an answer by its deadline fails, and says whether anybody answered', (t) => {
  const rig = new Rig().see(A);
  rig.refuse(A, 'ERR_TIMEOUT').add(1, 'lease.request', 1000).take();
  t.match(rig.until(1000).take().at(-1), 'fail 1 unreachable');
  rig.add(2, 'lease.request', 2000).answer(A, false).take();
  t.match(rig.until(2000).take().at(-1), 'fail 2 no-leader');
  t.equal(rig.machine.callCount, 0);
  rig.run(rig.machine.onLost(2, 2000));
  t.same(rig.run(rig.machine.onRefused(2, refused('ERR_TOKEN'), 2000)).take(), []);
  t.end();
});

t.test('a call that was refused for want of a leader is made again at the next', (t) => {
  const rig = new Rig().see(A, B).answer(A, true).answer(B, false, 1, A);
  rig.add(1).add(2, 'provider.redeem').take();
  rig.run(rig.machine.onRefused(1, refused('ERR_CONTROL_NOT_LEADER'), 0));
  rig.run(rig.machine.onRefused(2, refused('ERR_CONTROL_NOT_LEADER'), 0));
  t.equal(rig.machine.leader, undefined);
  t.same(rig.take(), ['hello bert'], 'the others are asked at once');
  rig.until(50);
  t.same(rig.take(), ['hello anna']);
  rig.answer(A, false, 2, B).take();
  t.same(rig.answer(B, true, 2).take(), ['tell-leader', 'send 1 bert', 'send 2 bert']);
  t.end();
});

t.test('of a lost answer: a call is made again, but for those that are made once', (t) => {
  const rig = new Rig().see(A).answer(A, true);
  rig.add(1).add(2, 'provider.redeem').take();
  t.same(rig.run(rig.machine.onLost(2, 0)).take(), ['fail 2 lost']);
  t.same(rig.run(rig.machine.onLost(1, 0)).take(), []);
  t.equal(rig.machine.leader, undefined, 'it has to say again that it leads');
  t.same(rig.until(50).take(), ['hello anna']);
  t.same(rig.answer(A, true).take(), ['tell-leader', 'send 1 anna']);
  t.end();
});

t.test('waits between attempts double and are bounded', (t) => {
  const rig = new Rig().see(A).answer(A, true);
  rig.add(1, 'lease.request', 60_000).take();
  const waits: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    const fromMs = rig.nowMs;
    rig.run(rig.machine.onRefused(1, refused('ERR_CONTROL_STORE'), fromMs)).take();
    while (!rig.take().includes('send 1 anna')) rig.until(rig.nowMs + 50);
    waits.push(rig.nowMs - fromMs);
  }
  t.same(waits, [50, 100, 200, 400, 500, 500]);
  t.equal(rig.machine.leader?.nodeId, A, 'a leader whose store is away still leads');
  rig.run(rig.machine.onRefused(1, refused('ERR_CONTROL_STORE'), rig.nowMs));
  t.match(rig.until(60_000).take().at(-1), /^(fail 1|hello)/);
  t.end();
});

t.test(
  'what the leader said last is the reason of a call that was made until its deadline',
  (t) => {
    const rig = new Rig().see(A).answer(A, true);
    rig.add(1, 'lease.request', 120).take();
    rig.run(rig.machine.onRefused(1, refused('ERR_CONTROL_STORE'), 0));
    rig.until(100);
    rig.run(rig.machine.onRefused(1, refused('ERR_CONTROL_STORE'), 100)).take();
    t.same(rig.until(150).take(), ['fail 1 no-leader ERR_CONTROL_STORE']);
    t.end();
  },
);

t.test('other refusals are the end of a call', (t) => {
  const rig = new Rig().see(A).answer(A, true);
  const codes = ['ERR_CONTROL_QUOTA', 'ERR_PEER_UNREACHABLE', 'ERR_TIMEOUT', 'ERR_TOKEN'] as const;
  for (const [index, code] of codes.entries()) {
    rig.add(index);
    t.equal(rig.machine.onRefused(index, refused(code), 0), undefined, code);
    rig.machine.remove(index);
  }
  rig.add(9, 'provider.redeem');
  t.equal(rig.machine.onRefused(9, refused('ERR_CONTROL_STORE'), 0), undefined, 'made once');
  t.equal(rig.machine.leader?.nodeId, A);
  t.end();
});

t.test('a node that is no member hears so at once, and is let in later all the same', (t) => {
  const rig = new Rig().see(A, B);
  rig.add(1).take();
  t.same(rig.refuse(A, 'ERR_CONTROL_DENIED').take(), [], 'the other may say otherwise');
  t.same(rig.refuse(B, 'ERR_CONTROL_DENIED').take(), ['fail 1 refused ERR_CONTROL_DENIED']);
  t.same(rig.add(2).take(), ['fail 2 refused ERR_CONTROL_DENIED']);
  rig.until(500).answer(A, true);
  t.same(rig.add(3).take().at(-1), 'send 3 anna');
  t.end();
});

t.test('a follower whose store is away is no refusal', (t) => {
  const rig = new Rig().see(A);
  rig.add(1).refuse(A, 'ERR_CONTROL_STORE').take();
  t.equal(rig.machine.callCount, 1);
  rig.until(500).answer(A, true);
  t.same(rig.take().at(-1), 'send 1 anna');
  t.end();
});

t.test('calls are bounded', (t) => {
  const rig = new Rig();
  for (let id = 0; id < 1024; id += 1) rig.add(id);
  t.same(rig.take(), []);
  t.same(rig.add(1024).take(), ['fail 1024 full']);
  rig.machine.remove(5);
  t.same(rig.add(1025).take(), []);
  t.end();
});
