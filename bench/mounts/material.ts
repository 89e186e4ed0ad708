/**
 * What recipes work on, made once for a run from a seed, on tmpfs, so that reading it costs every mount the
 * same: a tree of sources with a git repository and an archive of it, C files, a TypeScript program, and
 * packages for npm that need no registry.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Stage } from '../stage.ts';
import { seededRandom, type Random } from '../statistics.ts';

const TMPFS_PATH = '/dev/shm';
const SEED = 1;
const DIRECTORY_COUNT = 120;
const FILES_PER_DIRECTORY = 25;
const LINE_COUNT_MAX = 400;
const C_FILE_COUNT = 60;
const TS_FILE_COUNT = 120;
const PACKAGE_COUNT = 12;
const FILES_PER_PACKAGE = 80;
const COMMAND_TIMEOUT_MS = 180_000;

/** Paths of what was made. */
export interface Material {
  /** A directory of {@link DIRECTORY_COUNT} directories of sources. */
  readonly repository: string;
  /** The same as a tar file. */
  readonly archive: string;
  /** A directory of C files. */
  readonly cSources: string;
  /** A directory with a TypeScript program and its tsconfig.json. */
  readonly typescriptProject: string;
  /** A directory with package.json, package-lock.json and archives of its dependencies. */
  readonly npmProject: string;
  /** An empty directory, for HOME. */
  readonly home: string;
}

function words(random: Random, lines: number): string {
  const line = (): string =>
    Array.from({ length: 8 }, () => Math.floor(random() * 2 ** 32).toString(36)).join(' ');
  return Array.from({ length: lines }, line).join('\n');
}

function writeFile(directory: string, name: string, text: string): void {
  const file = path.join(directory, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}

function run(cwd: string, home: string, command: string, ...args: string[]): void {
  const env = { ...process.env, HOME: home, GIT_CONFIG_NOSYSTEM: '1' };
  const stdio = ['ignore', 'ignore', 'pipe'] as const;
  execFileSync(command, args, { cwd, env, stdio: [...stdio], timeout: COMMAND_TIMEOUT_MS });
}

function makeRepository(directory: string, home: string, random: Random): void {
  for (let d = 0; d < DIRECTORY_COUNT; d += 1) {
    for (let f = 0; f < FILES_PER_DIRECTORY; f += 1) {
      const lines = 1 + Math.floor(random() ** 3 * LINE_COUNT_MAX);
      writeFile(directory, `part-${d}/file-${f}.txt`, words(random, lines));
    }
  }
  run(directory, home, 'git', 'init', '--quiet', '--initial-branch=main');
  run(directory, home, 'git', 'add', '--all');
  const author = ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost'];
  run(directory, home, 'git', ...author, 'commit', '--quiet', '--message=material');
}

function makeCSources(directory: string): void {
  for (let i = 0; i < C_FILE_COUNT; i += 1) {
    const text = `#include <stdio.h>\nint f${i}(int x) { return printf("%d\\n", x + ${i}); }\n`;
    writeFile(directory, `f${i}.c`, text);
  }
}

function makeTypescriptProject(directory: string): void {
  const compilerOptions = {
    ...{ target: 'es2022', module: 'nodenext', strict: true, declaration: true, sourceMap: true },
    ...{ outDir: 'out', rootDir: 'src', types: [] },
  };
  writeFile(directory, 'tsconfig.json', JSON.stringify({ compilerOptions, include: ['src'] }));
  writeFile(directory, 'package.json', JSON.stringify({ name: 'bench', type: 'module' }));
  for (let i = 0; i < TS_FILE_COUNT; i += 1) {
    const before = i === 0 ? '' : `import { f${i - 1}, type T${i - 1} } from './m${i - 1}.js';\n`;
    const type = `export interface T${i} { readonly a: number; b?: ${i === 0 ? 'string' : `T${i - 1}`} }\n`;
    const body = i === 0 ? 'x.a' : `f${i - 1}(x.b ?? { a: x.a }) + ${i}`;
    const code = `${before}${type}export function f${i}(x: T${i}): number {\n  return ${body};\n}\n`;
    writeFile(directory, `src/m${i}.ts`, code);
  }
}

function makeNpmProject(directory: string, home: string, random: Random): void {
  const dependencies: Record<string, string> = {};
  for (let p = 0; p < PACKAGE_COUNT; p += 1) {
    const name = `bench-package-${p}`;
    const own = path.join(directory, 'packages', name, 'package');
    writeFile(own, 'package.json', JSON.stringify({ name, version: '1.0.0' }));
    for (let f = 0; f < FILES_PER_PACKAGE; f += 1) {
      writeFile(own, `lib/part-${f % 8}/file-${f}.js`, `// ${words(random, 1 + (f % 20))}\n`);
    }
    run(path.dirname(own), home, 'tar', 'czf', path.join(directory, `${name}.tgz`), 'package');
    dependencies[name] = `file:${name}.tgz`;
  }
  fs.rmSync(path.join(directory, 'packages'), { recursive: true });
  const manifest = { name: 'bench', version: '1.0.0', private: true, dependencies };
  writeFile(directory, 'package.json', JSON.stringify(manifest));
  const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--offline'];
  run(directory, home, 'npm', 'install', '--package-lock-only', ...quiet);
}

const made = new WeakMap<Stage, Material>();

/** Makes it, or returns what was made for this stage. @throws Error when a command fails */
export function materialOf(stage: Stage): Material {
  const before = made.get(stage);
  if (before !== undefined) return before;
  const random = seededRandom(SEED);
  const base = stage.makeDirectoryIn(TMPFS_PATH);
  const within = (name: string): string => path.join(base, name);
  const material: Material = {
    repository: within('repository'),
    archive: within('archive.tar'),
    cSources: within('c'),
    typescriptProject: within('typescript'),
    npmProject: within('npm'),
    home: within('home'),
  };
  fs.mkdirSync(material.home);
  makeRepository(material.repository, material.home, random);
  const tar = ['cf', material.archive, '--exclude=.git', '-C', base, 'repository'];
  run(base, material.home, 'tar', ...tar);
  makeCSources(material.cSources);
  makeTypescriptProject(material.typescriptProject);
  makeNpmProject(material.npmProject, material.home, random);
  made.set(stage, material);
  return material;
}
