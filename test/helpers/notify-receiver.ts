/** The other end of sd_notify: a real datagram socket, as a service manager has it. */
import koffi from 'koffi';
import type { Test } from 'tap';
import { throwErrno } from '../../common/libc.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, void *address, uint32_t length)');
const recvCall = libc.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)');
const closeCall = libc.func('int close(int fd)');

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

/** A bound socket that keeps what it got. */
export class NotifyReceiver {
  readonly #fd: number;
  readonly #datagram = Buffer.alloc(4096);

  /** @param name - a path, or `@` and an abstract name */
  constructor(t: Test, name: string) {
    this.#fd = socketCall(AF_UNIX, SOCK_DGRAM, 0) as number;
    if (this.#fd < 0) throwErrno('socket');
    t.teardown(() => closeCall(this.#fd) as number);
    const path = Buffer.from(name.replace(/^@/, '\0'), 'latin1');
    const address = Buffer.concat([Uint8Array.of(1, 0), path]);
    if (bindCall(this.#fd, address, address.length) !== 0) throwErrno('bind');
  }

  /** What came since the last call, a datagram each. */
  take(): string[] {
    const datagrams: string[] = [];
    for (;;) {
      const size = Number(recvCall(this.#fd, this.#datagram, this.#datagram.length, MSG_DONTWAIT));
      if (size < 0) return datagrams;
      datagrams.push(this.#datagram.toString('utf8', 0, size));
    }
  }
}
