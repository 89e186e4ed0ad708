/**
 * The RPC decoder against any bytes: random ones, and good messages with bytes changed, cut out and
 * doubled. It gives maps or ERR_RPC_PROTOCOL, nothing else is thrown, memory stays bounded, and the
 * way in which the bytes are cut changes nothing.
 *
 * SEED=n repeats a run; FUZZ_SECONDS=n lengthens it.
 */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { RpcDecoder, encodeRpcMessage } from '../../common/rpc-codec.ts';
import { RPC_PARAMS, checkRpcParams, type RpcMethod } from '../../common/rpc-schema.ts';
import { seededRandom } from '../helpers/sim-world.ts';

const firstSeed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 3);
t.comment(`SEED=${firstSeed}`);
t.setTimeout((seconds + 60) * 1000);

const METHODS = Object.keys(RPC_PARAMS) as RpcMethod[];
const SAMPLES = [
  { id: 1, method: 'status', params: {} },
  { id: 2, method: 'volume.create', params: { name: 'v', sizeBytes: 2 ** 40, providers: ['a'] } },
  { id: 3, result: [{ nodeId: 'x'.repeat(32), up: true, rttUs: 12.5, reason: null }] },
  { id: 4, error: { code: 'ERR_TIMEOUT', message: 'no answer' } },
];

function makeInput(random: () => number): Buffer {
  const below = (limit: number): number => Math.floor(random() * limit);
  if (random() < 0.2) return Buffer.from(Array.from({ length: below(200) }, () => below(256)));
  let bytes = Buffer.concat(
    Array.from({ length: 1 + below(3) }, () => encodeRpcMessage(SAMPLES[below(SAMPLES.length)])),
  );
  for (let edits = below(6); edits > 0; edits -= 1) {
    const at = below(bytes.length + 1);
    const kind = below(5);
    const changed = Buffer.from(bytes);
    // Type bytes are what a decoder trips over: fixed ones, extensions, lengths of 32 bits.
    if (kind === 0 && at < changed.length) changed[at] = 0xc0 + below(32);
    else if (kind === 1 && at < changed.length) changed[at] = below(256);
    if (kind < 2) bytes = changed;
    else if (kind === 2)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + below(9))]);
    else if (kind === 3)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(below(at + 1))]);
    else bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(4, 0xff), bytes.subarray(at)]);
  }
  // Often the length in front is made right again, so that the body is looked at.
  if (random() < 0.7 && bytes.length >= 4) bytes.writeUInt32BE(bytes.length - 4);
  return bytes;
}

/** Everything that the decoder makes of some bytes, as text; `!` where it refused. */
function decode(chunks: Buffer[]): string {
  const decoder = new RpcDecoder();
  const got: unknown[] = [];
  try {
    for (const chunk of chunks) got.push(...decoder.push(chunk));
  } catch (error) {
    if (!(error instanceof MemcloudError) || error.code !== 'ERR_RPC_PROTOCOL') throw error;
    // Which messages came before the refusal depends on the cut: they came in an earlier push.
    return '!';
  }
  for (const message of got) {
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw new Error('no map');
    }
    for (const method of METHODS) checkRpcParams(method, (message as { params?: unknown }).params);
  }
  return JSON.stringify(got, (_key, value: unknown) =>
    typeof value === 'bigint' ? `${value}n` : value,
  );
}

t.test('any bytes give maps or ERR_RPC_PROTOCOL, however they are cut', (t) => {
  const endMs = Date.now() + seconds * 1000;
  const before = process.memoryUsage().rss;
  let seed = firstSeed;
  for (; Date.now() < endMs; seed += 1) {
    const random = seededRandom(seed);
    const input = makeInput(random);
    const hex = input.toString('hex');
    try {
      const whole = decode([input]);
      const cut = Math.floor(random() * (input.length + 1));
      const halves = decode([
        Buffer.from(input.subarray(0, cut)),
        Buffer.from(input.subarray(cut)),
      ]);
      const bytes = decode([...input].map((byte) => Buffer.from([byte])));
      if (whole !== halves || whole !== bytes) throw new Error('the cut changed what was decoded');
    } catch (error) {
      t.fail(`SEED=${seed}: ${String(error)}`, { hex });
      break;
    }
  }
  const grown = process.memoryUsage().rss - before;
  t.ok(grown < 200 * 2 ** 20, `memory grew by ${grown} bytes`);
  t.comment(`${seed - firstSeed} inputs`);
  t.end();
});
