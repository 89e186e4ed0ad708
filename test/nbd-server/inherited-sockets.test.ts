import t from 'tap';
import { inheritedSockets } from '../../nbd-server/inherited-sockets.ts';

const CASES: [string, Record<string, string>, number[]][] = [
  ['nothing set', {}, []],
  ['one socket', { LISTEN_PID: '77', LISTEN_FDS: '1' }, [3]],
  ['three sockets', { LISTEN_PID: '77', LISTEN_FDS: '3' }, [3, 4, 5]],
  ['for another process', { LISTEN_PID: '78', LISTEN_FDS: '1' }, []],
  ['no count', { LISTEN_PID: '77' }, []],
  ['a count of zero', { LISTEN_PID: '77', LISTEN_FDS: '0' }, []],
  ['a negative count', { LISTEN_PID: '77', LISTEN_FDS: '-1' }, []],
  ['a count that is no number', { LISTEN_PID: '77', LISTEN_FDS: 'x' }, []],
  ['an absurd count', { LISTEN_PID: '77', LISTEN_FDS: '100000' }, []],
];

for (const [what, environment, expected] of CASES) {
  t.test(what, async (t) => {
    t.same(inheritedSockets(environment, 77), expected);
  });
}

t.test('sockets are told apart by their names', async (t) => {
  const environment = { LISTEN_PID: '77', LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:rpc' };
  const named = (name: string): number[] => inheritedSockets(environment, 77, (n) => n === name);
  t.same(named('a'), [3]);
  t.same(named('rpc'), [4]);
  t.same(named(''), [5]);
  t.same(named('b'), []);
});
