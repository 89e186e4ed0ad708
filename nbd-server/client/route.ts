/** The way to a host, as the kernel would choose it now: asked with a socket that sends nothing. */
import koffi from 'koffi';
import os from 'node:os';
import { encodeSocketAddress } from './socket-address.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const connectCall = libc.func('int connect(int fd, void *address, uint32_t length)');
const getsocknameCall = libc.func('int getsockname(int fd, void *address, void *length)');
const getsockoptCall = libc.func(
  'int getsockopt(int fd, int level, int option, void *value, void *length)',
);
const closeCall = libc.func('int close(int fd)');

/** Linux `socket.h`, `in.h`, `in6.h`. */
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const IPPROTO_IP = 0;
const IP_MTU = 14;
const IPPROTO_IPV6 = 41;
const IPV6_MTU = 24;

/** Any port: nothing is sent. */
const DISCARD_PORT = 9;

/** The way to a host as the kernel would choose it now. */
export interface Route {
  /** The interface that has the address that packets would come from; empty when unknown. */
  readonly interface: string;
  /** The MTU of the way as far as the kernel knows it; undefined when it does not say. */
  readonly pathMtu: number | undefined;
}

/** Colon notation or dots, without a zone, so that equal addresses have equal text. */
function addressText(family: number, sockaddr: Buffer): string {
  if (family === AF_INET) return [...sockaddr.subarray(4, 8)].join('.');
  return sockaddr.subarray(8, 24).toString('hex');
}

function interfaceOf(family: number, source: string): string {
  for (const [name, addresses = []] of Object.entries(os.networkInterfaces())) {
    for (const { address } of addresses) {
      if (address.includes(':') !== (family === AF_INET6)) continue;
      const { bytes } = encodeSocketAddress({ host: address.split('%')[0] ?? '', port: 0 });
      if (addressText(family, bytes) === source) return name;
    }
  }
  return '';
}

/**
 * Looks up the way to a host; sends nothing.
 *
 * @param host - a numeric address
 * @returns undefined when there is no way
 */
export function routeTo(host: string): Route | undefined {
  const { family, bytes } = encodeSocketAddress({ host, port: DISCARD_PORT });
  const fd = socketCall(family, SOCK_DGRAM | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) return undefined;
  try {
    if (connectCall(fd, bytes, bytes.length) !== 0) return undefined;
    const source = Buffer.alloc(28);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(source.length);
    if (getsocknameCall(fd, source, length) !== 0) return undefined;
    const [level, option] = family === AF_INET ? [IPPROTO_IP, IP_MTU] : [IPPROTO_IPV6, IPV6_MTU];
    const value = Buffer.alloc(4);
    length.writeUInt32LE(value.length);
    const known = getsockoptCall(fd, level, option, value, length) === 0;
    const pathMtu = known ? value.readUInt32LE() : undefined;
    return { interface: interfaceOf(family, addressText(family, source)), pathMtu };
  } finally {
    closeCall(fd);
  }
}
