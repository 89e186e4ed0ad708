/** `memcloud control-plane usage|audit|watch`: the account, the log, and what happens now. */
import { AUDIT_HASH_BEGIN, brokenAuditLine } from '../../common/audit-chain.ts';
import type { ReceiptCounts } from '../../common/audit-receipts.ts';
import { ExitCode, MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { nodeIdOf } from '../../common/fingerprint.ts';
import { pause } from '../../common/pause.ts';
import type { ControlAuditLine, ControlEvents } from '../../common/rpc-control.ts';
import { command, type Command } from '../command.ts';
import { interruptible } from '../interrupt.ts';
import { note, noteError, printData, printable, type GlobalFlags } from '../output.ts';
import { withControl, type ControlCaller } from './caller.ts';
import { renderAuditLine, renderDetail, renderUsage, usageCsv } from './render.ts';

const AUDIT_LINE_COUNT = 500;
/** How often the log is looked at for more. */
const FOLLOW_INTERVAL_MS = 1_000;
/** How long a watcher waits for the control plane to come back before it asks again. */
const RETRY_INTERVAL_MS = 1_000;
/** One call waits so long for an event. */
const WATCH_WAIT_MS = 4_000;

const usage = command<{ csv: boolean }>({
  command: 'usage',
  describe: 'show what each client has leased, now and over time',
  builder: (argv) =>
    argv
      .option('csv', {
        type: 'boolean',
        default: false,
        describe: 'as a sheet: RFC 4180, a header row, bytes and byte seconds',
      })
      .example('$0 control-plane usage --csv > usage.csv', ''),
  handler: (flags) => {
    if (flags.csv && flags.json) {
      throw new MemcloudError('ERR_USAGE', 'expected one of --csv and --json, got both');
    }
    return withControl(flags, async (caller) => {
      const rows = await caller.all('admin.usage');
      if (flags.csv) process.stdout.write(usageCsv(rows));
      else printData(flags, rows, renderUsage);
    });
  },
});

interface AuditFlags {
  after: number;
  follow: boolean;
  verify: boolean;
}

/** Every line behind `after`, page by page. */
async function* auditPages(
  caller: ControlCaller,
  after: number,
): AsyncGenerator<readonly ControlAuditLine[]> {
  let last = after;
  for (;;) {
    const { rows } = await caller.call('admin.audit', { after: last, countMax: AUDIT_LINE_COUNT });
    const end = rows.at(-1);
    if (end === undefined) return;
    yield rows;
    last = end.sequence;
    if (rows.length < AUDIT_LINE_COUNT) return;
  }
}

function printLine(flags: GlobalFlags, line: ControlAuditLine): void {
  process.stdout.write(`${flags.json ? JSON.stringify(line) : renderAuditLine(line)}\n`);
}

/** The keys of members, as far as each is the one that the member's id is made of. */
async function memberKeys(caller: ControlCaller): Promise<Map<string, Uint8Array>> {
  const keys = new Map<string, Uint8Array>();
  for (const { nodeId, publicKey } of await caller.all('admin.members')) {
    const key = Buffer.from(publicKey, 'hex');
    if (key.length > 0 && nodeIdOf(key) === nodeId) keys.set(nodeId, key);
  }
  return keys;
}

function receiptText({ valid, unknownKey, refused }: ReceiptCounts): string {
  const count = valid + unknownKey + refused;
  if (count === 0) return 'no receipt of a provider is among them';
  return [
    `receipts of providers: ${count}, of which ${valid} are signed as they should be`,
    ...(unknownKey === 0 ? [] : [`${unknownKey} are of providers that are no members any more`]),
    ...(refused === 0 ? [] : [`${refused} were not taken when they came, and say so`]),
  ].join(', ');
}

async function verifyAudit(flags: GlobalFlags & AuditFlags): Promise<void> {
  const { checkAuditReceipts } = await import('../../common/audit-receipts.ts');
  await withControl(flags, async (caller) => {
    const keys = await memberKeys(caller);
    const receipts = { valid: 0, unknownKey: 0, refused: 0 };
    let before: { sequence: number; hash: string } | undefined;
    let first: number | undefined;
    let lines = 0;
    for await (const page of auditPages(caller, flags.after)) {
      first ??= page[0]?.sequence;
      // Older lines may be gone; behind --after, and at the begin, the hash before is known or not asked for.
      if (first === 1) before ??= { sequence: 0, hash: AUDIT_HASH_BEGIN };
      const broken = brokenAuditLine(page, before);
      if (broken !== undefined) {
        throw new MemcloudError(
          'ERR_DATA_LOST',
          `the audit log was altered: line ${broken} does not follow from the one before`,
        );
      }
      const checked = await checkAuditReceipts(page, (provider) => keys.get(provider));
      if (checked.falseLine !== undefined) {
        const text = `the receipt in it is not the provider's signed word of what it says`;
        throw new MemcloudError('ERR_DATA_LOST', `audit log, line ${checked.falseLine}: ${text}`);
      }
      for (const name of ['valid', 'unknownKey', 'refused'] as const) {
        receipts[name] += checked[name];
      }
      lines += page.length;
      const last = page.at(-1);
      before = last === undefined ? before : { sequence: last.sequence, hash: last.hash };
    }
    const result = { lines, first: first ?? null, last: before?.sequence ?? null };
    printData(flags, { ...result, hash: before?.hash ?? null, receipts }, ({ last, hash }) => {
      if (last === null) return 'There is no line.';
      const chain = `${lines} lines, ${first} to ${last}, whole and in order; the hash of the last is ${hash}`;
      return `${chain}\n${receiptText(receipts)}`;
    });
  });
}

async function followAudit(flags: GlobalFlags & AuditFlags): Promise<void> {
  let { after } = flags;
  await interruptible(async (signal) => {
    while (!signal.aborted) {
      await withControl(flags, async (caller) => {
        for (;;) {
          for await (const page of auditPages(caller, after)) {
            for (const line of page) printLine(flags, line);
            after = page.at(-1)?.sequence ?? after;
          }
          await pause(FOLLOW_INTERVAL_MS, signal);
          if (signal.aborted) return;
        }
      }).catch((thrown: unknown) => outlast(flags, thrown, signal));
    }
  });
}

async function showAudit(flags: GlobalFlags & AuditFlags): Promise<void> {
  await withControl(flags, async (caller) => {
    const all: ControlAuditLine[] = [];
    for await (const page of auditPages(caller, flags.after)) {
      if (flags.json) all.push(...page);
      else for (const line of page) printLine(flags, line);
    }
    if (flags.json) printData(flags, all, () => '');
  });
}

const audit = command<AuditFlags>({
  command: 'audit',
  describe: 'print the audit log: grants, refusals, revocations, wipes, oldest first',
  builder: (argv) =>
    argv
      .option('after', {
        type: 'number',
        default: 0,
        describe: 'only lines behind this number',
      })
      .option('follow', {
        alias: 'f',
        type: 'boolean',
        default: false,
        describe: 'stay, and print lines as they come; with --json one object a line',
      })
      .option('verify', {
        type: 'boolean',
        default: false,
        describe: 'print no lines, but check that none was altered or taken out, and the receipts',
      })
      .example('$0 control-plane audit --after 1000', '')
      .example('$0 control-plane audit -f --json | jq .event', ''),
  handler: async (flags) => {
    const { after, follow, verify } = flags;
    if (!Number.isSafeInteger(after) || after < 0) {
      throw new MemcloudError('ERR_USAGE', `--after: expected the number of a line, got ${after}`);
    }
    if (follow && verify) {
      throw new MemcloudError('ERR_USAGE', 'expected one of --follow and --verify, got both');
    }
    if (verify) await verifyAudit(flags);
    else if (follow) await followAudit(flags);
    else await showAudit(flags);
  },
});

/**
 * A control plane that is away comes back, and whoever watches it stays.
 *
 * @throws what it was given, when waiting does not help
 */
async function outlast(flags: GlobalFlags, thrown: unknown, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const error = asMemcloudError(thrown);
  const isAway = error.code === 'ERR_DAEMON_UNREACHABLE' || error.exitCode === ExitCode.RETRYABLE;
  if (!isAway) throw error;
  noteError(error, flags.json);
  await pause(RETRY_INTERVAL_MS, signal);
}

function printEvents(flags: GlobalFlags, { events, missed }: ControlEvents): void {
  if (missed) note('memcloud: events were lost: look at everything again');
  for (const row of events) {
    const { event, detail } = row;
    const text = flags.json
      ? JSON.stringify(row)
      : `${printable(event)}  ${renderDetail(detail)}`.trimEnd();
    process.stdout.write(`${text}\n`);
  }
  if (missed && flags.json) {
    // A program reads stdout only.
    process.stdout.write(`${JSON.stringify({ cursor: '', event: 'missed', detail: {} })}\n`);
  }
}

async function watchEvents(flags: GlobalFlags): Promise<void> {
  let cursor: string | undefined;
  await interruptible(async (signal) => {
    while (!signal.aborted) {
      await withControl(flags, async (caller) => {
        while (!signal.aborted) {
          const from = cursor === undefined ? {} : { cursor, waitMs: WATCH_WAIT_MS };
          const seen = await caller.call('admin.watch', from);
          if (signal.aborted) return;
          printEvents(flags, seen);
          ({ cursor } = seen);
        }
      }).catch((thrown: unknown) => outlast(flags, thrown, signal));
    }
  });
}

const watch: Command = {
  command: 'watch',
  describe: 'print what happens, as it happens; with --json one object a line, for schedulers',
  builder: (argv) =>
    argv
      .usage(
        '$0 control-plane watch\n\nFrom now on, until Ctrl-C. It outlasts a change of the leader; an event ' +
          '"missed" means that some were lost, and everything is to be looked at again.',
      )
      .example('$0 control-plane watch --json', ''),
  handler: watchEvents,
};

/** These commands. */
export const reportCommands: readonly Command[] = [usage, audit, watch];
