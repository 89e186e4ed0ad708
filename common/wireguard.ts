/**
 * WireGuard links, as the kernel knows them. What leaves a socket that is bound to such an interface
 * leaves the machine sealed by WireGuard for one peer, and what reaches the socket was sealed by that
 * peer: a packet that came in by another interface does not match it. The binding is what counts, not the route of
 * the moment: routes change, and a packet to the tunnel's address can be sent to any interface.
 *
 * Sources: Linux `drivers/net/wireguard/device.c` (the device type), socket(7) SO_BINDTODEVICE. A
 * WireGuard in user space is a tun device to the kernel and does not count.
 */
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError } from './errors.ts';
import { errnoName, trySetSocketOption } from './libc.ts';

const INTERFACES = '/sys/class/net';
/** Linux `include/uapi/asm-generic/socket.h`. */
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;

/** True when the kernel says that the interface is a WireGuard device. */
export function isWireGuard(name: string, folder: string = INTERFACES): boolean {
  if (name === '' || name.includes('/')) return false;
  try {
    const text = fs.readFileSync(path.join(folder, name, 'uevent'), 'utf8');
    return text.split('\n').includes('DEVTYPE=wireguard');
  } catch {
    return false;
  }
}

/** True when this machine has any WireGuard interface. */
export function hasWireGuard(folder: string = INTERFACES): boolean {
  try {
    return fs.readdirSync(folder).some((name) => isWireGuard(name, folder));
  } catch {
    return false;
  }
}

/**
 * Lets a socket, connected or not, send and receive through one interface only.
 *
 * @throws MemcloudError `ERR_NATIVE`
 */
export function bindToInterface(fd: number, name: string): void {
  const errno = trySetSocketOption(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${name}\0`));
  if (errno === 0) return;
  throw new MemcloudError(
    'ERR_NATIVE',
    `a socket cannot be bound to interface ${name}: ${errnoName(errno)}`,
  );
}
