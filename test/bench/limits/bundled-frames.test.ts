/** A function of the built memnode, which is one file, is given back to the module that it was written in. */
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { unbundle } from '../../../bench/limits/bundled-frames.ts';
import { stageOf } from '../../../bench/limits/stages.ts';

/** This file runs as dist/test/bench/limits/bundled-frames.test.js. */
const MEMNODE_FILE = path.join(import.meta.dirname, '../../../daemon/main.js');

t.test('functions of a bundle have their own files again', async (t) => {
  const lines = fs.readFileSync(MEMNODE_FILE, 'utf8').split('\n');
  const url = pathToFileURL(MEMNODE_FILE).href;
  const at = (functionName: string, line: string) => {
    const lineNumber = lines.findIndex((text) => text.trim().startsWith(line));
    t.ok(lineNumber > 0, line);
    const columnNumber = (lines[lineNumber] ?? '').search(/\S/);
    return { id: lineNumber, callFrame: { functionName, url, lineNumber, columnNumber } };
  };
  const native = { functionName: 'now', url: '', lineNumber: -1, columnNumber: -1 };
  const elsewhere = { ...native, url: 'file:///nowhere/else.js' };
  const profile = unbundle({
    nodes: [
      at('unreserve', 'unreserve(length) {'),
      at('exportSecrets', 'exportSecrets(into'),
      { id: 1, callFrame: native },
      { id: 2, callFrame: elsewhere },
    ],
    ...{ startTime: 0, endTime: 1, samples: [], timeDeltas: [] },
  });
  const frames = profile.nodes.map(({ callFrame }) => callFrame);
  t.match(frames[0]?.url, /\/dist\/common\/byte-stream\.ts$/);
  t.same(frames.slice(0, 2).map(stageOf), ['byte stream', 'page sealed or opened']);
  t.same(frames.slice(2), [native, elsewhere], 'others are left as they are');
});
