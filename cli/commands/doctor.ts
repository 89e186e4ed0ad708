/** `memcloud doctor`: what is missing here, what that risks and the one command that mends it. */
import { ExitCode } from '../../common/errors.ts';
import { command, type Command } from '../command.ts';
import { checkAll } from '../doctor/checks.ts';
import { collectFacts } from '../doctor/collect.ts';
import type { CheckLevel, CheckResult } from '../doctor/finding.ts';
import { printData } from '../output.ts';

const MARKS = { ok: 'ok     ', warning: 'warning', problem: 'PROBLEM' } as const;

function render(results: CheckResult[]): string {
  const count = (wanted: CheckLevel): number =>
    results.filter(({ level }) => level === wanted).length;
  const lines = results.map(({ check, level, finding, fix }) => {
    const line = `${MARKS[level]}  ${check}: ${finding}`;
    return fix === '' ? line : `${line}\n           mend it: ${fix}`;
  });
  const sum = `${count('ok')} ok, ${count('warning')} warnings, ${count('problem')} problems`;
  return [...lines, '', sum].join('\n');
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command({
    command: 'doctor',
    describe: 'check this machine and the daemon; exit code 9 when there is a problem',
    handler: async (flags) => {
      const results = checkAll(await collectFacts(flags.socket));
      printData(flags, results, render);
      if (results.some(({ level }) => level === 'problem'))
        process.exitCode = ExitCode.DOCTOR_PROBLEMS;
    },
  }),
];
