/**
 * Which packages the product needs at run time: the `dependencies` of package.json and theirs,
 * found the way Node finds them (the nearest `node_modules` upwards). Development tools, a hundred
 * times as large, stay out of the guest.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';

/** One installed package. */
export interface InstalledPackage {
  /** Where it lies under the package root: `node_modules/...`. */
  readonly place: string;
  /** The folder on the host. */
  readonly folder: string;
  /** Its version. */
  readonly version: string;
}

interface Manifest {
  version?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

/** The run-time packages of the package in `root`, each once. Optional ones that are absent are left out. */
export function runtimePackages(root: string): InstalledPackage[] {
  const found = new Map<string, InstalledPackage>();
  const visit = (manifest: Manifest, folder: string): void => {
    const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
    for (const name of names) {
      const installed = resolveUpwards(folder, name);
      const place = installed === undefined ? undefined : placeOf(root, installed);
      if (installed === undefined || place === undefined || found.has(place)) continue;
      const own = readManifest(installed);
      found.set(place, { place, folder: realpathSync(installed), version: own.version ?? '' });
      visit(own, installed);
    }
  };
  const { dependencies } = readManifest(root);
  visit(dependencies === undefined ? {} : { dependencies }, root);
  return [...found.values()];
}

/** The nearest `node_modules/NAME` at or above a folder. */
function resolveUpwards(folder: string, name: string): string | undefined {
  for (let at = folder; ; at = path.dirname(at)) {
    const candidate = path.join(at, 'node_modules', name);
    if (existsSync(path.join(candidate, 'package.json'))) return candidate;
    if (at === path.dirname(at)) return undefined;
  }
}

/**
 * Where a package goes under the root. One that npm hoisted above the root (we are somebody's
 * dependency ourselves) goes where it would lie if it had not been.
 */
function placeOf(root: string, folder: string): string {
  const inside = path.relative(root, folder);
  if (!inside.startsWith('..')) return inside;
  return folder.slice(folder.indexOf('/node_modules/') + 1);
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as Manifest;
}
