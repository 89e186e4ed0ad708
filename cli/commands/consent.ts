/** `memcloud consent`: strangers that wait for a human. */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { ConsentInfo } from '../../common/rpc-schema.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { ConsentDialog, QUIT_KEYS, type DialogAction } from '../consent-dialog.ts';
import { printData, printable, table, type GlobalFlags } from '../output.ts';

const POLL_MS = 500;

/** Requests as a table, our own words under it, and how to answer. */
export function renderRequests(
  requests: readonly ConsentInfo[],
  ours: string,
  how = 'memcloud consent trust REQUEST',
): string {
  if (requests.length === 0) return 'Nobody waits for consent.';
  const rows = requests.map((request) => [
    request.request,
    request.name,
    request.fingerprint,
    `${request.direction} ${request.address}`,
    `${Math.round(request.expiresInS)} s`,
  ]);
  const columns = ['REQUEST', 'NAME', 'THEY ARE', 'FROM', 'LAPSES IN'];
  return [
    table(columns, rows),
    '',
    `we are: ${ours} (what they see)`,
    `Compare the words on both screens, then: ${how}`,
  ].join('\n');
}

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the requests that wait',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const requests = await client.call('consent.list', {});
      const { fingerprint } = await client.call('status', {});
      printData(flags, requests, (data) => renderRequests(data, fingerprint));
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
        describe:
          'request id or words, from memcloud consent ls; or a name, which anybody may claim',
      }),
    handler: (flags) =>
      withDaemon(flags, async (client) => {
        await client.call('consent.answer', { request: flags.request, answer: word });
        printData(flags, null, () => `Answered ${printable(flags.request)}: ${word}.`);
      }),
  });
}

/** Keys as they are pressed, none of them echoed; the terminal is as it was when `work` ends. */
async function withKeys<T>(work: (keys: () => string) => Promise<T>): Promise<T> {
  const { stdin } = process;
  let pressed = '';
  const onData = (chunk: Buffer): void => void (pressed += chunk.toString('latin1'));
  stdin.setRawMode(true);
  stdin.on('data', onData);
  try {
    return await work(() => {
      const keys = pressed;
      pressed = '';
      return keys;
    });
  } finally {
    stdin.off('data', onData);
    stdin.setRawMode(false);
    stdin.pause();
  }
}

/** Does what the dialog says. @returns true when it is over */
async function perform(
  client: MemcloudClient,
  dialog: ConsentDialog,
  actions: readonly DialogAction[],
): Promise<boolean> {
  for (const action of actions) {
    if (action.kind === 'end') return true;
    if (action.kind === 'print') {
      process.stdout.write(action.text);
      continue;
    }
    const { request, answer: word } = action;
    let problem: string | undefined;
    try {
      await client.call('consent.answer', { request: request.request, answer: word });
    } catch (error) {
      const failure = asMemcloudError(error);
      if (failure.code === 'ERR_DAEMON_UNREACHABLE') throw failure;
      problem = failure.message;
    }
    await perform(client, dialog, dialog.onAnswered(request, word, problem));
  }
  return false;
}

/** What was typed ahead of a question is no answer to it, but whoever wants to leave may. */
function quitIn(typed: string): string {
  return [...typed].find((key) => QUIT_KEYS.includes(key)) ?? '';
}

/** What is typed until it is time to look again; a key that comes at the last moment counts. */
async function nextKeys(keys: () => string): Promise<string> {
  const until = performance.now() + POLL_MS;
  for (;;) {
    const typed = keys();
    if (typed !== '' || performance.now() >= until) return typed;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function converse(client: MemcloudClient): Promise<void> {
  const { fingerprint } = await client.call('status', {});
  const dialog = new ConsentDialog(fingerprint);
  await withKeys(async (keys) => {
    for (;;) {
      const requests = await client.call('consent.list', {});
      const actions = dialog.onRequests(requests);
      await perform(client, dialog, actions);
      const ahead = actions.length > 0 ? keys() : '';
      const typed = quitIn(ahead) || (await nextKeys(keys));
      // One key is one answer; then we look again.
      const [key] = typed;
      if (key !== undefined && (await perform(client, dialog, dialog.onKey(key)))) return;
    }
  });
}

async function ask(flags: GlobalFlags): Promise<void> {
  if (flags.json || !process.stdin.isTTY || !process.stdout.isTTY) {
    throw new MemcloudError(
      'ERR_USAGE',
      'consent asks on a terminal; in a script: memcloud consent ls, then memcloud consent ' +
        'allow|trust|deny REQUEST',
    );
  }
  await withDaemon(flags, converse);
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  {
    command: 'consent',
    describe: 'answer machines that ask to be trusted',
    builder: (argv) =>
      [
        list,
        answer('allow', 'let it in for this session'),
        answer('trust', 'let it in now and whenever it shows the same key'),
        answer('deny', 'refuse it and remember'),
      ]
        .reduce((parser, module) => parser.command(module), argv)
        .usage('$0 consent\n\nOn a terminal: asks about each machine that waits, until q.'),
    handler: ask,
  },
];
