import t from 'tap';
import { nbdClientArguments } from '../../../../nbd-server/client/kernel/nbd-client-program.ts';

t.test('the command lines of nbd-client 3.24', async (t) => {
  t.equal(
    nbdClientArguments({ address: { path: '/run/s' }, exportName: 'swap', connections: 4 }, 2).join(
      ' ',
    ),
    '-unix /run/s /dev/nbd2 -N swap -b 4096 -t 30 -C 4',
  );
  t.equal(
    nbdClientArguments(
      { address: { host: '10.0.2.2', port: 10809 }, exportName: '', timeoutS: 5 },
      0,
    ).join(' '),
    '10.0.2.2 10809 /dev/nbd0 -N  -b 4096 -t 5 -C 1',
  );
});
