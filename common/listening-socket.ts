/**
 * Listening sockets that outlive their process: another one listens on a copy of the descriptor
 * (docs/adr/0009-handover.md). Node gives no access to either half of that, so both are here: the
 * descriptor of a server, and an end of listening that leaves the socket's file where it is.
 */
import fs from 'node:fs';
import type net from 'node:net';

/** The part of libuv's handle that names the descriptor. */
interface ServerWithHandle {
  _handle?: { readonly fd?: number } | null;
}

/** The descriptor that a server listens on; -1 when it does not. */
export function listenerDescriptor(server: net.Server): number {
  return (server as ServerWithHandle)._handle?.fd ?? -1;
}

/**
 * Stops listening here, while another process goes on. libuv would remove the file of a Unix socket
 * by its name, whoever listens on it by then, so the file has another name for that moment.
 *
 * @param path - of the Unix socket, undefined for TCP
 */
export function closeKeepingFile(server: net.Server, path: string | undefined): void {
  if (path === undefined || !fs.existsSync(path)) {
    server.close();
    return;
  }
  const aside = `${path}.handover`;
  fs.renameSync(path, aside);
  server.close();
  fs.renameSync(aside, path);
}
