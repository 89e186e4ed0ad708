/** Unix sockets with a name in a directory whose path is too long for an address. */
import koffi from 'koffi';
import * as sys from '../helpers/posix-calls.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, const void *address, uint32_t length)');
const connectCall = libc.func('int connect(int fd, const void *address, uint32_t length)');
const listenCall = libc.func('int listen(int fd, int backlog)');

const AF_UNIX = 1;
const SOCK_STREAM = 1;

/** `struct sockaddr_un` */
function address(path: string): Buffer {
  const bytes = Buffer.alloc(110);
  bytes.writeUInt16LE(AF_UNIX, 0);
  bytes.write(path, 2);
  return bytes;
}

/** Sockets of one directory, reached through /proc/self/fd. */
export class SocketCalls {
  readonly #directory: number;
  readonly #open: number[] = [];

  /** @param directory - where the names are */
  constructor(directory: string) {
    this.#directory = sys.open(directory, sys.O.PATH | sys.O.DIRECTORY);
    this.#open.push(this.#directory);
  }

  #address(name: string): Buffer {
    return address(`/proc/self/fd/${this.#directory}/${name}`);
  }

  #socket(): number {
    const fd = Number(socketCall(AF_UNIX, SOCK_STREAM, 0));
    this.#open.push(fd);
    return fd;
  }

  /** Binds and listens. @returns 0, or `-errno` */
  listen(name: string): number {
    const fd = this.#socket();
    if (Number(bindCall(fd, this.#address(name), 110)) !== 0) return -koffi.errno();
    return Number(listenCall(fd, 4)) === 0 ? 0 : -koffi.errno();
  }

  /** Connects. @returns 0, or `-errno` */
  connect(name: string): number {
    const result = Number(connectCall(this.#socket(), this.#address(name), 110));
    return result === 0 ? 0 : -koffi.errno();
  }

  /** Closes all of them. */
  close(): void {
    for (const fd of this.#open.splice(0)) sys.close(fd);
  }
}
