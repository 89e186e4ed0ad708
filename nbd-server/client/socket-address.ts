/**
 * Socket addresses as connect(2) takes them: Linux `sockaddr_un`, `sockaddr_in`, `sockaddr_in6` on a
 * little-endian machine (family and scope in host order, port and address in network order).
 */
import net from 'node:net';
import { MemcloudError } from '../../common/errors.ts';
import type { NbdAddress } from './handshake.ts';

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
/** Bytes of `sun_path`, the final NUL included. unix(7). */
const UNIX_PATH_SIZE_MAX = 108;

/**
 * @param address - a path, or a numeric host
 * @returns the address family and the bytes
 * @throws MemcloudError `ERR_USAGE_ADDRESS` for a path too long or a host that is not numeric
 */
export function encodeSocketAddress(address: NbdAddress): { family: number; bytes: Buffer } {
  if ('path' in address) {
    const place = Buffer.from(address.path);
    if (place.length === 0 || place.length >= UNIX_PATH_SIZE_MAX || place.includes(0)) {
      throw new MemcloudError(
        'ERR_USAGE_ADDRESS',
        `socket path: expected 1 to ${UNIX_PATH_SIZE_MAX - 1} bytes, got ${place.length}`,
      );
    }
    const bytes = Buffer.alloc(2 + place.length + 1);
    bytes.writeUInt16LE(AF_UNIX, 0);
    bytes.set(place, 2);
    return { family: AF_UNIX, bytes };
  }
  const { host, port } = address;
  if (net.isIPv4(host)) {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16LE(AF_INET, 0);
    bytes.writeUInt16BE(port, 2);
    bytes.set(host.split('.').map(Number), 4);
    return { family: AF_INET, bytes };
  }
  if (net.isIPv6(host)) {
    const bytes = Buffer.alloc(28);
    bytes.writeUInt16LE(AF_INET6, 0);
    bytes.writeUInt16BE(port, 2);
    bytes.set(ipv6Bytes(host), 8);
    return { family: AF_INET6, bytes };
  }
  throw new MemcloudError('ERR_USAGE_ADDRESS', `host: expected a numeric address, got "${host}"`);
}

/** The 16 bytes of an address that net.isIPv6 accepted; a zone is left out. */
function ipv6Bytes(host: string): number[] {
  const plain = (host.split('%')[0] ?? '').replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a, b, c, d) =>
      `${(Number(a) * 256 + Number(b)).toString(16)}:${(Number(c) * 256 + Number(d)).toString(16)}`,
  );
  const [head = '', tail] = plain.split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeroes = new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeroes, ...after].flatMap((group) => [group >> 8, group & 255]);
}
