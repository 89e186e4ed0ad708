/** The null server speaks NBD well enough that what is measured on it is not an error path. */
import t, { type Test } from 'tap';
import { Stage } from '../../../bench/stage.ts';
import { nullTcp, nullUnix } from '../../../bench/targets/null-nbd.ts';
import { missingTools } from '../../../bench/tools.ts';
import { infoData, option, RawClient, request } from '../../helpers/nbd-raw-client.ts';

const SIZE_BYTES = 2 ** 30;
const [READ, WRITE, DISCONNECT] = [0, 1, 2];
const skip = missingTools(['gcc']).length > 0 && 'not installed: gcc';

async function serve(t: Test, target = nullUnix): Promise<{ path: string } | { port: number }> {
  const stage = new Stage();
  t.teardown(() => stage.close());
  const url = new URL((await target.start(stage, SIZE_BYTES)).uri);
  const path = url.searchParams.get('socket');
  return path === null ? { port: Number(url.port) } : { path };
}

t.test('the size is told; options that it lacks are refused in words', { skip }, async (t) => {
  const client = await RawClient.connect(await serve(t));
  const greeting = await client.read(18);
  t.equal(greeting.toString('latin1', 0, 16), 'NBDMAGICIHAVEOPT');
  client.send(Buffer.from([0, 0, 0, 3]));
  client.send(option(8));
  t.same(await client.optionReplies(), [{ option: 8, type: 0x80000001, data: Buffer.alloc(0) }]);
  client.send(option(7, infoData('any')));
  const [info, last] = await client.optionReplies();
  t.equal(info?.data.readUInt16BE(0), 0, 'NBD_INFO_EXPORT');
  t.equal(info?.data.readBigUInt64BE(2), BigInt(SIZE_BYTES));
  t.equal(last?.type, 1);
});

t.test('more requests than a batch, cut anywhere: each has its answer', { skip }, async (t) => {
  const client = await RawClient.open(await serve(t), 'simple');
  const count = 700;
  const isRead = (at: number): boolean => at % 3 === 0;
  const all = Array.from({ length: count }, (_, at) =>
    request({
      command: isRead(at) ? READ : WRITE,
      cookie: BigInt(at),
      offset: at * 4096,
      length: 4096,
      ...(isRead(at) ? {} : { payload: Buffer.alloc(4096, 0xff) }),
    }),
  );
  const bytes = Buffer.concat(all);
  for (let at = 0; at < bytes.length; at += 99_991) client.send(bytes.subarray(at, at + 99_991));
  for (let at = 0; at < count; at += 1) {
    const { cookie, error, data } = await client.reply(isRead(at) ? 4096 : 0);
    if (cookie !== BigInt(at) || error !== 0 || data.some((byte) => byte !== 0)) {
      t.fail(`reply ${at}: cookie ${cookie}, error ${error}`);
    }
  }
  client.request({ command: DISCONNECT });
  t.ok(await client.closed());
});

t.test('the same over TCP', { skip }, async (t) => {
  const client = await RawClient.open(await serve(t, nullTcp), 'simple');
  client.request({ command: READ, cookie: 5n, length: 8192 });
  t.same(await client.reply(8192), { cookie: 5n, error: 0, data: Buffer.alloc(8192) });
  client.request({ command: WRITE, cookie: 6n, length: 2, payload: Buffer.from('ab') });
  t.equal((await client.reply()).cookie, 6n);
});
