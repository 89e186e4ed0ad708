/** `memcloud trust`: the keys that this machine has decided about, and its own. */
import type { TrustInfo } from '../../common/rpc-schema.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { printData, printable, table } from '../output.ts';

/** Keys as a table. */
export function renderTrust(entries: readonly TrustInfo[]): string {
  if (entries.length === 0) return 'No key is trusted or denied yet.';
  const isRevoked = entries.some(({ revokedBy }) => revokedBy.length > 0);
  const rows = entries.map(({ name, fingerprint, publicKey, decision, decidedAt, revokedBy }) => [
    name || '-',
    fingerprint || `key ${publicKey.slice(0, 16)}...`,
    decision,
    decidedAt,
    ...(isRevoked ? [revokedBy.join(', ') || '-'] : []),
  ]);
  const columns = ['NAME', 'THEY ARE', 'DECISION', 'SINCE', ...(isRevoked ? ['REVOKED BY'] : [])];
  return table(columns, rows);
}

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the keys that were trusted, denied, or named before they came',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('trust.list', {}), renderTrust);
    }),
};

const add = command<{ key: string; name: string | undefined }>({
  command: 'add <key>',
  describe: 'trust a key by its words, id or in full; one never seen, when it first comes',
  builder: (argv) =>
    argv
      .positional('key', {
        type: 'string',
        demandOption: true,
        describe: 'eight words, a node id or a public key: memcloud id on the other machine',
      })
      .option('name', { type: 'string', describe: 'what to call it until it has told its name' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { key, name } = flags;
      const params = { fingerprint: key, ...(name === undefined ? {} : { name }) };
      printData(flags, await client.call('trust.add', params), (entry) => {
        const who = entry.fingerprint || entry.publicKey;
        return entry.decision === 'expected'
          ? `Will be trusted when it first comes: ${who}`
          : `Trusted: ${printable(entry.name)}, they are: ${who}`;
      });
    }),
});

const remove = command<{ peer: string; deny: boolean }>({
  command: 'rm <peer>',
  aliases: ['remove'],
  describe: 'forget a key; its sessions end at once, and trusted peers are told',
  builder: (argv) =>
    argv
      .positional('peer', {
        type: 'string',
        demandOption: true,
        describe: 'words, node id or name, from memcloud trust ls',
      })
      .option('deny', {
        type: 'boolean',
        default: false,
        describe: 'refuse it from now on without asking, instead of forgetting it',
      }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { peer, deny } = flags;
      await client.call('trust.remove', { peer, ...(deny ? { deny } : {}) });
      printData(flags, null, () => `${deny ? 'Denied' : 'Forgot'} ${printable(peer)}.`);
    }),
});

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('trust', 'list, add and forget trusted keys', [list, add, remove]),
  {
    command: 'id',
    describe: 'show the words of this machine, as others see them',
    handler: (flags) =>
      withDaemon(flags, async (client) => {
        const { name, nodeId, fingerprint } = await client.call('status', {});
        printData(flags, { name, nodeId, fingerprint }, () =>
          [`we are: ${fingerprint} (what they see)`, `name ${name}, id ${nodeId}`].join('\n'),
        );
      }),
  },
];
