import net from 'node:net';
import t from 'tap';
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';

t.test('onFlush comes once before each write, and may give bytes back', async (t) => {
  const received: Buffer[] = [];
  const server = net.createServer((socket) => socket.on('data', (bytes) => received.push(bytes)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  let flushes = 0;
  const handler: ByteStreamHandler = {
    onBytes: (_input, _start, end) => end,
    onDrain: () => undefined,
    onClosed: () => undefined,
    onFlush: () => {
      flushes += 1;
      stream.unreserve(96);
    },
  };
  const sizes = { inputSizeBytes: 4096, outputChunkSizeBytes: 4096, timeoutMs: 1000 };
  const stream = await ByteStream.connect({ host: '127.0.0.1', port }, sizes, handler);
  for (let turn = 1; turn <= 3; turn += 1) {
    const offset = stream.reserve(100);
    stream.output.bytes.fill(turn, offset, offset + 4);
    t.equal(flushes, turn - 1, 'not before the end of the turn');
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(flushes, turn);
  }
  stream.flush();
  t.equal(flushes, 3, 'nothing to flush is nothing to tell');
  t.equal(Buffer.concat(received).toString('hex'), '010101010202020203030303');
  stream.destroy();
  server.close();
});
