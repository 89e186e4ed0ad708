/** The RPC server of a daemon, as its configuration wants it. */
import { MemcloudError } from '../../common/errors.ts';
import type { EventLoopSpin } from '../../common/event-loop-spin.ts';
import type { Logger } from '../../common/log.ts';
import { parseAddress } from '../../common/units.ts';
import type { DaemonConfig } from '../config.ts';
import { RpcServer, type RpcHandlers } from '../rpc-server.ts';
import { findRpcGroup, loadRpcToken } from './access.ts';

/** After a handover the daemon before may hold the port a little longer. */
const PORT_WAIT_MS = 10_000;
const PORT_RETRY_MS = 100;

/** Makes the server; it listens nowhere yet. */
export function makeRpcServer(
  handlers: RpcHandlers,
  config: Pick<DaemonConfig, 'rpcGroup' | 'rpcTcp' | 'stateDirectory'>,
  logger: Logger,
  spin: EventLoopSpin,
): RpcServer {
  const token = config.rpcTcp === undefined ? undefined : loadRpcToken(config.stateDirectory);
  return new RpcServer(handlers, logger, {
    group: findRpcGroup(config.rpcGroup),
    ...(token === undefined ? {} : { token: () => token }),
    onHotCall: () => spin.onActivity(),
  });
}

/**
 * Listens on loopback, if that is wanted.
 *
 * @param isSuccessor - another daemon, which is about to go, may still have the port
 * @throws MemcloudError `ERR_DAEMON_BUSY`, `ERR_NATIVE`
 */
export async function listenOnLoopback(
  server: RpcServer,
  config: Pick<DaemonConfig, 'rpcTcp'>,
  isSuccessor: boolean,
): Promise<void> {
  if (config.rpcTcp === undefined) return;
  const { host, port } = parseAddress(config.rpcTcp);
  const untilMs = performance.now() + (isSuccessor ? PORT_WAIT_MS : 0);
  for (;;) {
    try {
      await server.listenTcp(host, port);
      return;
    } catch (error) {
      const isBusy = error instanceof MemcloudError && error.code === 'ERR_DAEMON_BUSY';
      if (!isBusy || performance.now() >= untilMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, PORT_RETRY_MS));
    }
  }
}
