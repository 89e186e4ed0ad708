import t from 'tap';
import { partIsAlive, partStateIsAlive } from '../../../daemon/direct/mirror.ts';

t.test('a part lives while md says in_sync and not faulty', (t) => {
  const cases: [string, boolean][] = [
    ['in_sync\n', true],
    ['in_sync,failfast\n', true],
    ['in_sync,write_error', true],
    ['faulty\n', false],
    ['in_sync,faulty', false],
    ['spare', false],
    ['', false],
  ];
  for (const [state, alive] of cases) t.equal(partStateIsAlive(state), alive, state);
  t.end();
});

t.test('a part of a mirror that is gone is not alive', (t) => {
  t.equal(partIsAlive('/dev/md511', '/dev/dm-4095'), false);
  t.end();
});
