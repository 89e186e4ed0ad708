/** Results as files: JSON with every trial, and the plot, in bench/results of the checkout. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { drawBarPlot } from './bar-plot.ts';
import { renderMachine, type Machine } from './machine.ts';
import type { SuiteResult } from './suites/suite.ts';

/** This file runs as dist/bench/results.js; results lie beside its source. */
const RESULTS_DIRECTORY = fileURLToPath(new URL('../../bench/results', import.meta.url));

/**
 * Writes `NAME-DATE.json` and, if there is something to plot, `NAME-DATE.svg`.
 *
 * @returns the paths
 */
export function writeResults(name: string, machine: Machine, result: SuiteResult): string[] {
  const date = new Date().toISOString();
  const stem = path.join(RESULTS_DIRECTORY, `${name}-${date.slice(0, 19).replaceAll(':', '')}`);
  fs.mkdirSync(RESULTS_DIRECTORY, { recursive: true });
  const json = `${stem}.json`;
  const whole = { name, date, machine, failures: result.failures, ...result.data };
  fs.writeFileSync(json, `${JSON.stringify(whole, undefined, 2)}\n`);
  if (result.panels.every(({ bars }) => bars.length === 0)) return [json];
  const svg = `${stem}.svg`;
  const title = `MemCloud benchmark: ${name}`;
  const subtitle = `${renderMachine(machine).split('\n')[0] ?? ''}; ${date.slice(0, 10)}`;
  fs.writeFileSync(svg, drawBarPlot(title, subtitle, result.panels));
  return [json, svg];
}
