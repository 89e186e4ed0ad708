/**
 * Work as people do it: clone, unpack, install, build. Each run has a fresh directory on the mount,
 * which goes before the next one; only the command itself is timed. Nothing needs a network.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { FileRun, FileWorkload } from './file-workloads.ts';
import { materialOf, type Material } from './material.ts';

const COMMAND_TIMEOUT_MS = 180_000;
const TARGETS = ['memcloud', 'memcloud-build-cache', 'libfuse', 'tmpfs'];

interface Recipe {
  readonly name: string;
  /** Shell, before the clock runs; its directory is fresh. */
  readonly before?: (material: Material) => string;
  /** Shell; what is measured. */
  readonly command: (material: Material) => string;
  /** True when the first run on a mount only fills a cache. */
  readonly warm?: boolean;
}

/** The compiler that we are built with. */
function typescriptFile(): string {
  return createRequire(import.meta.url).resolve('typescript/bin/tsc');
}

const RECIPES: readonly Recipe[] = [
  {
    name: 'git-clone',
    command: ({ repository }) => `git clone --quiet file://${repository} clone`,
  },
  { name: 'tar-x', command: ({ archive }) => `tar xf ${archive}` },
  {
    name: 'npm-ci',
    before: ({ npmProject }) => `cp ${npmProject}/*.tgz ${npmProject}/package*.json .`,
    command: () => 'npm ci --offline --ignore-scripts --no-audit --no-fund --cache ./cache',
  },
  {
    name: 'tsc-build',
    before: ({ typescriptProject }) => `cp -r ${typescriptProject}/. .`,
    command: () => `${process.execPath} ${typescriptFile()} -p .`,
  },
  {
    name: 'ccache-warm',
    before: ({ cSources }) => `cp ${cSources}/*.c .`,
    command: () => 'for f in *.c; do ccache gcc -O2 -c "$f" || exit 1; done',
    warm: true,
  },
];

async function runRecipe(run: FileRun, recipe: Recipe): Promise<number> {
  const material = materialOf(run.stage);
  // The same path each time: the cache of a compiler looks at it.
  const directory = path.join(run.directory, recipe.name);
  fs.rmSync(directory, { recursive: true, force: true });
  fs.mkdirSync(directory);
  const shell = async (script: string): Promise<void> => {
    const variables = [
      ...[`HOME=${material.home}`, `CCACHE_DIR=${path.join(run.directory, 'ccache')}`],
      ...['GIT_CONFIG_NOSYSTEM=1', `TMPDIR=${directory}`],
    ];
    const args = ['-C', directory, ...variables, 'sh', '-c', script];
    await run.stage.run('env', args, COMMAND_TIMEOUT_MS);
  };
  if (recipe.before !== undefined) await shell(recipe.before(material));
  const start = performance.now();
  await shell(recipe.command(material));
  const seconds = (performance.now() - start) / 1000;
  fs.rmSync(directory, { recursive: true, force: true });
  return seconds;
}

/** See the top of the file. */
export const RECIPE_WORKLOADS: readonly FileWorkload[] = RECIPES.map((recipe) => {
  const measure = (run: FileRun): Promise<number> => runRecipe(run, recipe);
  const base: FileWorkload = { name: recipe.name, unit: 's', targets: TARGETS, measure };
  if (recipe.warm !== true) return base;
  return { ...base, prepare: async (run) => void (await measure(run)) };
});
