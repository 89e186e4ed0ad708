/**
 * The last step of the build: each daemon process becomes one file, in the place where the compiler had put its
 * entry. Such a process is made of hundreds of modules, and finding and linking them took most of its start
 * (ADR 16). Packages with binaries, threads or files of their own stay beside it.
 */
import fs from 'node:fs';
import path from 'node:path';
import { build, type Plugin } from 'esbuild';

const ROOT = path.join(import.meta.dirname, '../../..');
const DIST = path.join(ROOT, 'dist');
const ENTRIES = ['daemon/main', 'daemon/mount-main', 'daemon/control-main'];
const BESIDE = [
  '@grpc/*',
  'etcd3',
  'fuse-native',
  'koffi',
  'lmdb',
  'lz4-napi',
  'msgpackr-extract',
  'pino',
];
/** Packages that are not modules ask for others in this way. */
const REQUIRE =
  "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);";

/** A module that asks where it lies is told where the compiler has put it. */
function placesAsBuilt(outputFolder: string): Plugin {
  return {
    name: 'places-as-built',
    setup: (plugin) => {
      plugin.onLoad({ filter: /\.ts$/ }, async ({ path: file }) => {
        const text = await fs.promises.readFile(file, 'utf8');
        const built = path.join(DIST, path.relative(ROOT, file)).replace(/\.ts$/, '.js');
        const from = JSON.stringify(path.relative(outputFolder, built));
        const place = `new URL(${from}, import.meta.url).href`;
        return { contents: text.replaceAll('import.meta.url', place), loader: 'ts' };
      });
    },
  };
}

for (const entry of ENTRIES) {
  const outfile = path.join(DIST, `${entry}.js`);
  await build({
    entryPoints: [path.join(ROOT, `${entry}.ts`)],
    outfile,
    allowOverwrite: true,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    sourcemap: true,
    sourcesContent: false,
    external: BESIDE,
    banner: { js: REQUIRE },
    plugins: [placesAsBuilt(path.dirname(outfile))],
    logLevel: 'warning',
  });
}
