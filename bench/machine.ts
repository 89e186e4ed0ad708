/** The machine and the versions that a result belongs to. */
import os from 'node:os';
import { VERSION } from '../common/version.ts';
import { formatSize } from '../common/units.ts';
import { loadAverage } from './proc.ts';
import type { Stage } from './stage.ts';
import { formatNumber } from './table.ts';
import type { ToolName } from './targets/target.ts';

/** See the top of the file. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly loadAverage: number;
  /** Share of the processors that others used just before, 0 to 1. */
  readonly busyShare: number;
  readonly versions: Readonly<Record<string, string>>;
}

const VERSION_TIMEOUT_MS = 10_000;

/** Of programs that do not know `--version`. */
const VERSION_ARGUMENTS: Readonly<Record<string, string>> = {
  openssl: 'version',
  'nbd-server': '-V',
};

/** Describes this machine; `tools` are asked for their versions. */
export async function describeMachine(
  stage: Stage,
  tools: readonly ToolName[],
  busyShare: number,
): Promise<Machine> {
  const versions: Record<string, string> = { memcloud: VERSION, node: process.versions.node };
  for (const tool of tools) {
    const asked = VERSION_ARGUMENTS[tool] ?? '--version';
    const output = await stage.run(tool, [asked], VERSION_TIMEOUT_MS);
    versions[tool] = /\d+(\.\d+)+/.exec(output)?.[0] ?? 'unknown';
  }
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model ?? 'unknown',
    cores: cpus.length,
    memoryBytes: os.totalmem(),
    kernel: os.release(),
    loadAverage: loadAverage(),
    busyShare,
    versions,
  };
}

/** The machine in two lines. */
export function renderMachine(machine: Machine): string {
  const { cpu, cores, memoryBytes, kernel, versions } = machine;
  const list = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const busy = `${formatNumber(machine.busyShare * 100)} % busy before`;
  return [
    `${cpu}, ${cores} cores, ${formatSize(memoryBytes)}, Linux ${kernel}`,
    `${list.join(', ')}; ${busy}, load average ${machine.loadAverage}`,
  ].join('\n');
}
