#!/usr/bin/env node
/** The other side of `bare-remote.ts`: memory behind one plain TCP connection. Prints its port; ends with a signal. */
import net from 'node:net';
import { ByteStream } from '../../common/byte-stream.ts';
import { copyMemory } from '../../common/libc.ts';
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import { makeProcessSpin } from '../../common/process-spin.ts';
import {
  BARE_ANSWER_SIZE_BYTES,
  BARE_REQUEST_SIZE_BYTES,
  BARE_SIZE_BYTES,
  BARE_STREAM_OPTIONS,
  BareKind,
} from './bare-wire.ts';

const memory = new NativeMemory(BARE_SIZE_BYTES);
const spin = makeProcessSpin();

/** Answers what is there. @returns how far it was read */
function answer(stream: ByteStream, input: NativeBuffer, start: number, end: number): number {
  let at = start;
  while (end - at >= BARE_REQUEST_SIZE_BYTES) {
    const place = memory.address + input.bytes.readDoubleLE(at);
    const length = input.bytes.readUInt32LE(at + 8);
    const isWrite = input.bytes.readUInt32LE(at + 12) === BareKind.WRITE;
    const next = at + BARE_REQUEST_SIZE_BYTES + (isWrite ? length : 0);
    if (next > end) break;
    const to = stream.reserve(isWrite ? BARE_ANSWER_SIZE_BYTES : length);
    if (isWrite) copyMemory(place, input.address + at + BARE_REQUEST_SIZE_BYTES, length);
    else copyMemory(stream.output.address + to, place, length);
    at = next;
  }
  return at;
}

const server = net.createServer({ pauseOnConnect: true }, (socket) => {
  const stream = ByteStream.adopt(socket, BARE_STREAM_OPTIONS, {
    onBytes: (input, start, end) => {
      spin.onActivity(stream);
      return answer(stream, input, start, end);
    },
    onDrain: () => undefined,
    onClosed: () => spin.forget(stream),
  });
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as net.AddressInfo;
  process.stdout.write(`port ${port}\n`);
});
