/** `memcloud doctor`: what is missing here, what that risks and the one command that mends it. */
import { ExitCode, asMemcloudError } from '../../common/errors.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { printData, printable, type GlobalFlags } from '../output.ts';
import { checkMachine, type CheckResult } from '../system/checks.ts';

const MARKS = { ok: 'ok     ', warning: 'warning', problem: 'PROBLEM' } as const;

function checkDaemon(status: StatusInfo): CheckResult[] {
  const up = status.peers.filter((peer) => peer.state === 'up').length;
  const results: CheckResult[] = [
    {
      check: 'daemon',
      level: 'ok',
      finding: `memnode ${status.version} answers as ${printable(status.name)}`,
      fix: '',
    },
    up > 0
      ? { check: 'peers', level: 'ok', finding: `${up} up`, fix: '' }
      : {
          check: 'peers',
          level: 'warning',
          finding: 'no peer is up: volumes have nowhere to go',
          fix: 'memcloud peer connect HOST:PORT',
        },
  ];
  if (status.consentPending > 0) {
    const finding = `${status.consentPending} waiting for an answer`;
    results.push({ check: 'consent', level: 'warning', finding, fix: 'memcloud consent ls' });
  }
  for (const volume of status.volumes) {
    if (volume.health === 'ok') continue;
    results.push({
      check: `volume ${volume.name}`,
      level: volume.health === 'lost' ? 'problem' : 'warning',
      finding: volume.health === 'lost' ? 'pages were lost' : 'fewer copies than promised',
      fix: `memcloud volume inspect ${volume.name}`,
    });
  }
  return results;
}

async function askDaemon(flags: GlobalFlags): Promise<CheckResult[]> {
  try {
    return checkDaemon(await withDaemon(flags, (client) => client.call('status', {})));
  } catch (error) {
    const finding = asMemcloudError(error).message;
    const fix = `memnode --socket ${flags.socket}`;
    return [{ check: 'daemon', level: 'warning', finding, fix }];
  }
}

function render(results: CheckResult[]): string {
  return results
    .map(({ check, level, finding, fix }) => {
      const line = `${MARKS[level]}  ${check}: ${finding}`;
      return fix === '' ? line : `${line}\n           mend it: ${fix}`;
    })
    .join('\n');
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command({
    command: 'doctor',
    describe: 'check this machine and the daemon; exit code 9 when there is a problem',
    handler: async (flags) => {
      const results = [...checkMachine(), ...(await askDaemon(flags))];
      printData(flags, results, render);
      if (results.some(({ level }) => level === 'problem'))
        process.exitCode = ExitCode.DOCTOR_PROBLEMS;
    },
  }),
];
