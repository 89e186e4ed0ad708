/**
 * Listening sockets that the parent opened (systemd socket activation, `sd_listen_fds(3)`): systemd,
 * and also `nbdinfo [ PROGRAM ]`, `nbdcopy [ PROGRAM ]` and libnbd's tests, which start a server so.
 */

/** The name of a socket for the daemon's own RPC, as `FileDescriptorName=` of its unit says. */
export const RPC_SOCKET_NAME = 'rpc';

/** The first inherited descriptor. sd-daemon.h `SD_LISTEN_FDS_START`. */
const LISTEN_FDS_START = 3;
/** More sockets than this are taken for a mistake. */
const LISTEN_FDS_MAX = 16;

/**
 * The inherited listening sockets.
 *
 * @param environment - `LISTEN_PID` must be `pid` (it is unset for a child that only inherited the
 *   variables), `LISTEN_FDS` their number, `LISTEN_FDNAMES` their names with colons between
 * @param wanted - tells by its name which socket is asked for; a socket without one is named ''
 * @returns descriptors, none when the process was not socket activated
 */
export function inheritedSockets(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
  wanted: (name: string) => boolean = () => true,
): number[] {
  if (environment['LISTEN_PID'] !== String(pid)) return [];
  const count = Number(environment['LISTEN_FDS']);
  if (!Number.isInteger(count) || count < 1 || count > LISTEN_FDS_MAX) return [];
  const names = (environment['LISTEN_FDNAMES'] ?? '').split(':');
  return Array.from({ length: count }, (_, index) => LISTEN_FDS_START + index).filter((fd) =>
    wanted(names[fd - LISTEN_FDS_START] ?? ''),
  );
}
