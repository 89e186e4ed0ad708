import { once } from 'node:events';
import koffi from 'koffi';
import t from 'tap';
import { watchConnection } from '../../direct/keep-alive.ts';
import { startRecords } from '../helpers/record-pair.ts';

const getsockopt = koffi
  .load(null)
  .func('int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint32_t *n)');

function optionOf(fd: number, level: number, option: number): number {
  const value = Buffer.alloc(4);
  const result = getsockopt(fd, level, option, value, [4]) as number;
  return result === 0 ? value.readInt32LE(0) : NaN;
}

t.test('a vanished consumer is noticed after six minutes, not sooner', async (t) => {
  const { below } = await startRecords(t);
  t.ok(below.fd > 2);
  t.equal(watchConnection(below.fd), undefined);
  t.equal(optionOf(below.fd, 1, 9), 1, 'SO_KEEPALIVE');
  t.equal(optionOf(below.fd, 6, 4), 60, 'TCP_KEEPIDLE');
  t.equal(optionOf(below.fd, 6, 5), 15, 'TCP_KEEPINTVL');
  t.equal(optionOf(below.fd, 6, 6), 20, 'TCP_KEEPCNT');
  t.equal(optionOf(below.fd, 6, 18), 360_000, 'TCP_USER_TIMEOUT');
});

t.test('what is refused is named', async (t) => {
  t.equal(watchConnection(-1), 'EBADF');
  const { below, socket } = await startRecords(t);
  const closed = once(socket, 'close');
  below.destroy();
  await closed;
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(below.fd, -1, 'a closed stream has no descriptor that could be somebody else by now');
});
