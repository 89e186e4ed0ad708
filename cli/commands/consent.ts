/** `memcloud consent`: strangers that wait for a human. */
import type { ConsentInfo } from '../../common/rpc-schema.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { printData, printable, table } from '../output.ts';

function renderRequests(requests: ConsentInfo[]): string {
  if (requests.length === 0) return 'Nobody waits for consent.';
  const rows = requests.map((request) => [
    request.request,
    request.name,
    request.nodeId,
    `${request.direction} ${request.address}`,
    `${Math.round(request.expiresInS)} s`,
  ]);
  const hint =
    'Compare the id with "memcloud status" on the other machine, then: memcloud consent trust REQUEST';
  return `${table(['REQUEST', 'NAME', 'ID', 'FROM', 'LAPSES IN'], rows)}\n\n${hint}`;
}

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the requests that wait',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('consent.list', {}), renderRequests);
    }),
};

function answer(word: 'allow' | 'trust' | 'deny', describe: string): Command {
  return command<{ request: string }>({
    command: `${word} <request>`,
    describe,
    builder: (argv) =>
      argv.positional('request', {
        type: 'string',
        demandOption: true,
        describe: 'from memcloud consent ls',
      }),
    handler: (flags) =>
      withDaemon(flags, async (client) => {
        await client.call('consent.answer', { request: flags.request, answer: word });
        printData(flags, null, () => `Answered ${printable(flags.request)}: ${word}.`);
      }),
  });
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('consent', 'answer machines that ask to be trusted', [
    list,
    answer('allow', 'let it in for this session'),
    answer('trust', 'let it in now and whenever it shows the same key'),
    answer('deny', 'refuse it and remember'),
  ]),
];
