/** `memcloud peer`: the machines around, as the daemon sees them. */
import type { PeerInfo } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { note, printData, printable, table } from '../output.ts';

const CONNECT_TIMEOUT_MS = 15_000;

/** Whether pages can go there, and why not. */
function stateOf({ state, reason, quarantine, accepting }: PeerInfo): string {
  if (quarantine !== '') return `${state}, quarantined (${quarantine})`;
  if (reason !== '') return `${state} (${reason})`;
  return accepting ? state : `${state}, takes no pages`;
}

/** Peers as a table. */
export function renderPeers(peers: PeerInfo[]): string {
  if (peers.length === 0) return 'No peers. Connect one: memcloud peer connect HOST:PORT';
  const rows = peers.map((peer) => [
    peer.name || '-',
    peer.nodeId.slice(0, 12) || '-',
    peer.address,
    stateOf(peer),
    peer.usage === null ? '-' : formatSize(peer.usage.offeredBytes),
    peer.usage === null ? '-' : formatSize(peer.usage.offeredBytes - peer.usage.usedBytes),
    peer.lentBytes === 0 ? '-' : formatSize(peer.lentBytes),
    peer.rttUs === null ? '-' : `${(peer.rttUs / 1000).toFixed(2)} ms`,
    peer.zone || '-',
  ]);
  const columns = ['PEER', 'ID', 'ADDRESS', 'STATE', 'OFFERS', 'FREE', 'LENT', 'PING', 'ZONE'];
  return table(columns, rows);
}

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the peers',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('peer.list', {}), renderPeers);
    }),
};

const connect = command<{ address: string }>({
  command: 'connect <address>',
  describe: 'connect to a peer at HOST:PORT',
  builder: (argv) =>
    argv.positional('address', { type: 'string', demandOption: true, describe: 'HOST:PORT' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const timeoutMs = CONNECT_TIMEOUT_MS;
      const peer = await client.call('peer.connect', { address: flags.address }, { timeoutMs });
      if (peer.state === 'pending') {
        note('Consent is needed: see memcloud consent ls, on this machine and on the other.');
      }
      printData(flags, peer, (data) => renderPeers([data]));
    }),
});

const disconnect = command<{ peer: string; force: boolean }>({
  command: 'disconnect <peer>',
  describe: 'end the session with a peer and stop dialling it',
  builder: (argv) =>
    argv
      .usage(
        '$0 peer disconnect PEER\n\nIts direct swap here is wiped, and this machine can no longer ' +
          'mend its own there: while either is in use it is refused without --force.',
      )
      .positional('peer', { type: 'string', demandOption: true, describe: 'name or id' })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'although direct swap, here or there, lies on it: programs may be killed',
      }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      await client.call('peer.disconnect', { peer: flags.peer, force: flags.force });
      printData(flags, null, () => `Disconnected ${printable(flags.peer)}.`);
    }),
});

const pardon = command<{ peer: string }>({
  command: 'pardon <peer>',
  describe: 'believe the pages of a quarantined peer again',
  builder: (argv) =>
    argv.positional('peer', { type: 'string', demandOption: true, describe: 'name or id' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      await client.call('peer.pardon', { peer: flags.peer });
      printData(flags, null, () => `Pages may be kept on ${printable(flags.peer)} again.`);
    }),
});

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('peer', 'list and connect other machines', [list, connect, disconnect, pardon]),
];
