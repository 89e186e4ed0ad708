/** TCP ports of the loopback for processes that are to be found again, or killed and started anew. */
import { once } from 'node:events';
import net from 'node:net';

/** Above well-known ports and ours, below those that the kernel hands out to whoever asks for any. */
const [MIN, MAX] = [20_000, 32_000];
const SHARE = 200;
/** Tests that run at the same time draw from other parts, and none draws a port twice. */
const first = MIN + (process.pid % ((MAX - MIN) / SHARE)) * SHARE;
let drawn = 0;

/** A port that nobody has, and nobody else is given while what listens there is down. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = first + (drawn % SHARE);
    drawn += 1;
    const server = net.createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Where a process is to listen: `127.0.0.1:PORT`. */
export async function freeAddress(): Promise<string> {
  return `127.0.0.1:${await freePort()}`;
}
