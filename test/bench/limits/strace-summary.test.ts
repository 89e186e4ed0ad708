/** The table of strace has a column that may be blank. */
import t from 'tap';
import {
  CALL_KINDS,
  callsPerPage,
  parseStraceSummary,
} from '../../../bench/limits/strace-summary.ts';

const TABLE = [
  '% time     seconds  usecs/call     calls    errors syscall',
  '------ ----------- ----------- --------- --------- ----------------',
  ' 61.24    0.181340           9     20000       500 epoll_pwait',
  ' 30.02    0.088881           8     10000           read',
  '  8.00    0.023690           4      5000           writev',
  '  0.74    0.002191           2      1000         7 futex',
  '  0.00    0.000000           0         1           madvise',
  '------ ----------- ----------- --------- --------- ----------------',
  '100.00    0.296102           8     36001       507 total',
  '',
].join('\n');

t.test('calls and errors are told apart, and the sum is no call', async (t) => {
  t.same(parseStraceSummary(`strace: Process 7 attached\n${TABLE}`), [
    { name: 'epoll_pwait', calls: 20000, errors: 500 },
    { name: 'read', calls: 10000, errors: 0 },
    { name: 'writev', calls: 5000, errors: 0 },
    { name: 'futex', calls: 1000, errors: 7 },
    { name: 'madvise', calls: 1, errors: 0 },
  ]);
});

t.test('what is no table is refused', async (t) => {
  t.throws(() => parseStraceSummary('strace: attach: Operation not permitted'), /not permitted/);
  t.throws(() => parseStraceSummary(''), RangeError);
});

t.test('calls of one kind are added and divided by pages', async (t) => {
  const counts = [
    { name: 'read', calls: 100, errors: 0 },
    { name: 'recvmsg', calls: 50, errors: 0 },
    { name: 'sendmsg', calls: 20, errors: 0 },
    { name: 'madvise', calls: 10, errors: 0 },
  ];
  t.same(
    [...callsPerPage(counts, 100)],
    [
      ['read', 1.5],
      ['write', 0.2],
      ['wait', 0],
      ['futex', 0],
      ['other', 0.1],
    ],
  );
  t.same([...callsPerPage([], 1).keys()], CALL_KINDS, 'a kind without calls is there');
});
