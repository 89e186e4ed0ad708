/**
 * Gives the functions of a bundled program back to their files. A memnode is one file (ADR 16), and a profile
 * names that one for everything; its source map says where each function was written.
 */
import fs from 'node:fs';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { CallFrame, CpuProfile } from './cpu-profile.ts';

/** This file runs as dist/bench/limits/bundled-frames.js. */
const DIST = path.join(import.meta.dirname, '../..');

function readMap(url: string): SourceMap | undefined {
  const file = `${fileURLToPath(url)}.map`;
  if (!fs.existsSync(file)) return undefined;
  return new SourceMap(JSON.parse(fs.readFileSync(file, 'utf8')) as SourceMap['payload']);
}

/** The same profile, in which each function has the file that it was written in, as if it lay in dist/. */
export function unbundle(profile: CpuProfile): CpuProfile {
  const maps = new Map<string, SourceMap | undefined>();
  const place = (frame: CallFrame): CallFrame => {
    const { url, lineNumber, columnNumber } = frame;
    if (!url.startsWith('file:')) return frame;
    if (!maps.has(url)) maps.set(url, readMap(url));
    const entry = maps.get(url)?.findEntry(lineNumber, columnNumber);
    if (entry === undefined || !('originalSource' in entry)) return frame;
    const source = path.resolve(path.dirname(fileURLToPath(url)), entry.originalSource);
    const file = path.join(DIST, path.relative(path.dirname(DIST), source));
    return { ...frame, url: pathToFileURL(file).href };
  };
  const nodes = profile.nodes.map((node) => ({ ...node, callFrame: place(node.callFrame) }));
  return { ...profile, nodes };
}
