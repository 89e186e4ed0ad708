/** `memcloud peer`: the machines around, as the daemon sees them. */
import os from 'node:os';
import type { PeerInfo } from '../../common/rpc-schema.ts';
import { parseSizeExpression } from '../../common/size-expression.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { note, printData, printable, table } from '../output.ts';
import { discover } from './discover.ts';

const CONNECT_TIMEOUT_MS = 15_000;

/** Whether pages can go there, and why not. */
function stateOf({ state, reason, quarantine, accepting, nextTryInMs, guest }: PeerInfo): string {
  if (quarantine !== '') return `${state}, quarantined (${quarantine})`;
  const next = nextTryInMs === null ? '' : `, next try in ${formatDuration(nextTryInMs)}`;
  if (reason !== '') return `${state}${next} (${reason})`;
  if (guest) return `${state}${next}, guest`;
  return accepting ? `${state}${next}` : `${state}, takes no pages`;
}

function sizeOrDash(bytes: number): string {
  return bytes === 0 ? '-' : formatSize(bytes);
}

function rowOf(peer: PeerInfo, isWide: boolean): string[] {
  const { usage, allowedBytes, rttUs } = peer;
  return [
    peer.name || '-',
    peer.nodeId.slice(0, isWide ? undefined : 12) || '-',
    peer.address,
    stateOf(peer),
    allowedBytes === null ? 'all' : formatSize(allowedBytes),
    sizeOrDash(peer.lentBytes),
    usage === null ? '-' : formatSize(usage.offeredBytes),
    usage === null ? '-' : formatSize(usage.offeredBytes - usage.usedBytes),
    sizeOrDash(peer.borrowedBytes),
    rttUs === null ? '-' : `${(rttUs / 1000).toFixed(2)} ms`,
    peer.zone || '-',
    ...(isWide ? [peer.fingerprint || '-'] : []),
  ];
}

/** What the peers that are up offer this machine, and what of it it could still get. */
function pooled(peers: readonly PeerInfo[]): string {
  const usages = peers.flatMap(({ state, usage }) =>
    state === 'up' && usage !== null ? [usage] : [],
  );
  const offered = usages.reduce((sum, { offeredBytes }) => sum + offeredBytes, 0);
  const used = usages.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  return `Pooled: ${formatSize(offered)}, ${formatSize(offered - used)} of it free`;
}

/**
 * Peers as a table. ALLOWED and LENT are theirs here, OFFERS, FREE and BORROWED ours there. Wide, it has
 * whole ids and the words of their keys.
 */
export function renderPeers(peers: readonly PeerInfo[], isWide = false): string {
  if (peers.length === 0) return 'No peers. Connect one: memcloud peer connect HOST:PORT';
  const columns = ['PEER', 'ID', 'ADDRESS', 'STATE', 'ALLOWED', 'LENT', 'OFFERS', 'FREE'];
  const wide = isWide ? ['THEY ARE'] : [];
  const rows = peers.map((peer) => rowOf(peer, isWide));
  return table([...columns, 'BORROWED', 'PING', 'ZONE', ...wide], rows);
}

/** How much a peer may use here; null for as much as is offered to all. */
function parseAllowance(text: string): number | null {
  return text.toLowerCase() === 'none' ? null : parseSizeExpression(text, os.totalmem());
}

const list = command<{ wide: boolean }>({
  command: 'ls',
  aliases: ['list'],
  describe: 'list the peers',
  builder: (argv) =>
    argv.option('wide', {
      type: 'boolean',
      default: false,
      describe: 'also show whole ids, and keys in words',
    }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { wide } = flags;
      printData(flags, await client.call('peer.list', {}), (peers) =>
        peers.length === 0 ? renderPeers(peers) : `${renderPeers(peers, wide)}\n${pooled(peers)}`,
      );
    }),
});

const connect = command<{
  address: string;
  allow: string | undefined;
  fingerprint: string | undefined;
}>({
  command: 'connect <address>',
  describe: 'connect to a peer at HOST:PORT',
  builder: (argv) =>
    argv
      .positional('address', { type: 'string', demandOption: true, describe: 'HOST:PORT' })
      .option('fingerprint', {
        type: 'string',
        describe: 'words, id or key of the node there; any other learns nothing of this one',
      })
      .option('allow', {
        alias: ['quota', 'o', 'offer-storage'],
        type: 'string',
        describe: 'RAM that it may use here at most; 0 for none: then only this machine borrows',
      })
      .example('$0 peer connect 10.0.0.2:7070 --allow 4G', 'it may use 4 GiB of this machine'),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { address, allow, fingerprint } = flags;
      const allowed =
        allow === undefined ? {} : { allowedBytes: parseSizeExpression(allow, os.totalmem()) };
      const timeoutMs = CONNECT_TIMEOUT_MS;
      const pinned = fingerprint === undefined ? {} : { fingerprint };
      const params = { address, ...allowed, ...pinned };
      const peer = await client.call('peer.connect', params, { timeoutMs });
      if (peer.state === 'pending') {
        note('Consent is needed: memcloud consent, on this machine and on the other.');
      }
      printData(flags, peer, (data) => renderPeers([data]));
    }),
});

const update = command<{ peer: string; allow: string }>({
  command: 'update <peer>',
  describe: 'change what a peer may use here',
  builder: (argv) =>
    argv
      .usage(
        '$0 peer update PEER --allow SIZE|none\n\nIt counts at once, and for good: over reconnects ' +
          'and restarts. A peer that has more keeps what it has and gets nothing new.',
      )
      .positional('peer', { type: 'string', demandOption: true, describe: 'name or id' })
      .option('allow', {
        alias: ['quota', 'a', 'allowed-storage'],
        type: 'string',
        demandOption: true,
        describe:
          'RAM that it may use here at most; 0: nothing, none: as much as is offered to all',
      })
      .example('$0 peer update alpha --allow 2G', 'alpha may use 2 GiB here, in all its volumes'),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const allowedBytes = parseAllowance(flags.allow);
      const peer = await client.call('peer.update', { peer: flags.peer, allowedBytes });
      printData(flags, peer, ({ name, nodeId, lentBytes }) => {
        const who = printable(name || nodeId);
        const limit =
          allowedBytes === null ? 'as much as is offered to all' : formatSize(allowedBytes);
        const isOver = allowedBytes !== null && lentBytes > allowedBytes;
        const over = isOver ? ' It keeps that, and gets nothing new until it is below.' : '';
        return `${who} may use ${limit} here; it has ${formatSize(lentBytes)}.${over}`;
      });
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
  group('peer', 'list and connect other machines', [
    ...[list, discover, connect, update, disconnect, pardon],
  ]),
];
