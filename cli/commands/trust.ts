/** `memcloud trust`: the keys that this machine has decided about. */
import type { TrustInfo } from '../../common/rpc-schema.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { printData, printable, table } from '../output.ts';

function renderTrust(entries: TrustInfo[]): string {
  if (entries.length === 0) return 'No key is trusted or denied yet.';
  const rows = entries.map(({ name, nodeId, decision, decidedAt }) => [
    name,
    nodeId,
    decision,
    decidedAt,
  ]);
  return table(['NAME', 'ID', 'DECISION', 'SINCE'], rows);
}

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the keys that were trusted or denied',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('trust.list', {}), renderTrust);
    }),
};

const remove = command<{ peer: string }>({
  command: 'rm <peer>',
  describe: 'forget a key, by node id or name; its sessions end at once',
  builder: (argv) =>
    argv.positional('peer', {
      type: 'string',
      demandOption: true,
      describe: 'node id or name, from memcloud trust ls',
    }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      await client.call('trust.remove', { peer: flags.peer });
      printData(flags, null, () => `Forgot ${printable(flags.peer)}.`);
    }),
});

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('trust', 'list and forget trusted keys', [list, remove]),
];
