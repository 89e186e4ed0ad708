import t from 'tap';
import { drainRoom, holdingProblem, type DrainCandidate } from '../../daemon/drain-room.ts';

const MIB = 2 ** 20;

/** `b@rack:8`: node b on machine rack with 8 MiB free; `b:8` does not say its machine. */
function candidates(...texts: string[]): DrainCandidate[] {
  return texts.map((text) => {
    const [place = '', free] = text.split(':');
    const [nodeId = '', hostId = ''] = place.split('@');
    return { nodeId, hostId, freeBytes: Number(free) * MIB };
  });
}

const PROBLEMS: readonly [string, number, number, string[], RegExp | ''][] = [
  ['nothing is there', 2, 0, [], ''],
  ['one copy, and room', 1, 8, ['b:8'], ''],
  ['one copy, room on several', 1, 8, ['b:4', 'c:4'], ''],
  ['one copy, one byte too little', 1, 8, ['b:4', 'c:3'], /8 MiB there, .* 7 MiB free/],
  ['nobody else', 1, 8, [], /needs another machine, and 0 others/],
  ['two copies, two machines', 2, 8, ['b:8', 'c:8'], ''],
  ['two copies, one machine', 2, 8, ['b@x:8', 'c@x:8'], /2 copies on as many machines, and 1 /],
  ['two copies, machines that do not say', 2, 8, ['b:8', 'c:8'], ''],
  ['an offer that shrank below what is lent', 1, 8, ['b:-100', 'c:8'], ''],
];
for (const [name, copies, heldMib, others, problem] of PROBLEMS) {
  t.test(`${name}: ${problem === '' ? 'it can leave' : 'it cannot'}`, async (t) => {
    const holding = { name: 'v', copies, heldBytes: heldMib * MIB };
    const text = holdingProblem({ ...holding, candidates: candidates(...others) });
    if (problem === '') t.equal(text, '');
    else t.match(text, problem);
  });
}

t.test('volumes that fit one by one may not fit together; room is counted once', async (t) => {
  const one = { name: 'v', copies: 1, heldBytes: 5 * MIB, candidates: candidates('b:8') };
  t.same(drainRoom([one]), { heldBytes: 5 * MIB, roomBytes: 8 * MIB, problem: '' });
  t.match(drainRoom([one, { ...one, name: 'w' }]), {
    ...{ heldBytes: 10 * MIB, roomBytes: 8 * MIB },
    problem: 'volumes have 10 MiB there, the others have 8 MiB free',
  });
  const elsewhere = { ...one, name: 'w', heldBytes: 0, candidates: candidates('c:100') };
  t.equal(drainRoom([one, elsewhere]).roomBytes, 8 * MIB, 'room that nothing needs is none');
  t.same(drainRoom([]), { heldBytes: 0, roomBytes: 0, problem: '' });
});
