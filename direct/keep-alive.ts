/**
 * TCP's own watch over a data connection. A consumer that vanished without a word must be noticed,
 * or its export would live for ever; but a link that is cut for a minute must not end the connection,
 * because then the consumer's kernel would have to wait for a new one. So: about six minutes, also
 * when there is unacknowledged output (then TCP asks nothing and only the user timeout counts).
 *
 * Node offers the first of these options only. Source: tcp(7), Linux `include/uapi/linux/tcp.h`.
 */
import { errnoName, trySetSocketOption } from '../common/libc.ts';
import { KEEP_ALIVE_COUNT, KEEP_ALIVE_IDLE_S, KEEP_ALIVE_INTERVAL_S } from './constants.ts';

const SOL_SOCKET = 1;
const SO_KEEPALIVE = 9;
const SOL_TCP = 6;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_USER_TIMEOUT = 18;
const USER_TIMEOUT_MS = (KEEP_ALIVE_IDLE_S + KEEP_ALIVE_COUNT * KEEP_ALIVE_INTERVAL_S) * 1000;

/** Sets the options; returns the name of the errno of the one that was refused, undefined when all are set. */
export function watchConnection(fd: number): string | undefined {
  const value = Buffer.alloc(4);
  for (const [level, option, number] of [
    [SOL_SOCKET, SO_KEEPALIVE, 1],
    [SOL_TCP, TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S],
    [SOL_TCP, TCP_KEEPINTVL, KEEP_ALIVE_INTERVAL_S],
    [SOL_TCP, TCP_KEEPCNT, KEEP_ALIVE_COUNT],
    [SOL_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS],
  ] as const) {
    value.writeInt32LE(number);
    const errno = trySetSocketOption(fd, level, option, value);
    if (errno !== 0) return errnoName(errno);
  }
  return undefined;
}
