import fc from 'fast-check';
import t from 'tap';
import { OutputSplitter } from '../../../cli/guest/output-splitter.ts';

/** Feeds the stream in pieces cut at the given places. */
function split(token: string, stream: Buffer, cuts: number[]): { output: Buffer; rest: Buffer } {
  const splitter = new OutputSplitter(token);
  const places = [
    0,
    ...cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b),
    stream.length,
  ];
  const output: Buffer[] = [];
  const rest: Buffer[] = [];
  let ended = false;
  for (let i = 1; i < places.length; i += 1) {
    const chunk = stream.subarray(places[i - 1], places[i]);
    if (ended) {
      rest.push(chunk);
      continue;
    }
    const result = splitter.push(chunk);
    output.push(result.output);
    if (result.rest !== undefined) {
      ended = true;
      rest.push(result.rest);
    }
  }
  return { output: Buffer.concat(output), rest: Buffer.concat(rest) };
}

t.test('output is every byte before the token, however the stream is cut', async () => {
  const bytes = fc.uint8Array({ maxLength: 60, max: 3 });
  fc.assert(
    fc.property(bytes, bytes, fc.array(fc.nat(), { maxLength: 8 }), (before, after, cuts) => {
      // A token of the alphabet's own bytes, so that the output is full of beginnings of it.
      const token = Buffer.from([1, 1, 2, 1, 1, 3]);
      const at = Buffer.concat([before, token, after]).indexOf(token);
      const stream = Buffer.concat([before, token, after]);
      const { output, rest } = split(token.toString('latin1'), stream, cuts);
      return (
        output.equals(stream.subarray(0, at)) && rest.equals(stream.subarray(at + token.length))
      );
    }),
    { numRuns: 2000 },
  );
});

t.test('without the token all but a possible beginning of it is handed on', async (t) => {
  const splitter = new OutputSplitter('abcd');
  t.equal(splitter.push(Buffer.from('xxab')).output.toString(), 'xx');
  t.equal(splitter.push(Buffer.from('cx')).output.toString(), 'abcx');
  const end = splitter.push(Buffer.from('abcd7\n'));
  t.equal(end.output.toString(), '');
  t.equal(end.rest?.toString(), '7\n');
});
