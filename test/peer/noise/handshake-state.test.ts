import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { blake2b, blake2s } from '@noble/hashes/blake2.js';
import { sha256 } from '@noble/hashes/sha2.js';
import t from 'tap';
import {
  HandshakeState,
  keyPairFrom,
  NOISE_MESSAGE_SIZE_MAX,
  type HandshakeOptions,
} from '../../../peer/noise/handshake-state.ts';
import type { NoiseHash } from '../../../peer/noise/symmetric-state.ts';

const HASHES: Record<string, NoiseHash> = {
  SHA256: { name: 'SHA256', hash: sha256 },
  BLAKE2s: { name: 'BLAKE2s', hash: blake2s },
  BLAKE2b: { name: 'BLAKE2b', hash: blake2b },
};

interface Vector {
  protocol_name: string;
  init_prologue: string;
  init_static: string;
  init_ephemeral: string;
  resp_prologue: string;
  resp_static: string;
  resp_ephemeral: string;
  handshake_hash: string;
  messages: { payload: string; ciphertext: string }[];
}

const fromHex = (hex: string): Buffer => Buffer.from(hex, 'hex');
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const none = (): Uint8Array => new Uint8Array(0);

let seed = 1;
function pair(overrides: Partial<HandshakeOptions> = {}): [HandshakeState, HandshakeState] {
  const make = (initiator: boolean): HandshakeState =>
    new HandshakeState({
      initiator,
      prologue: Buffer.from('test'),
      staticKeys: keyPairFrom(new Uint8Array(32).fill(seed++)),
      ephemeralKeys: keyPairFrom(new Uint8Array(32).fill(seed++)),
      hash: HASHES['SHA256']!,
      ...overrides,
    });
  return [make(true), make(false)];
}

// Tests run from dist/test/peer/noise; vectors are not compiled.
const vectorFile = new URL('../../../../test/vectors/noise/noise-xx.json', import.meta.url);
const { vectors } = JSON.parse(readFileSync(vectorFile, 'utf8')) as { vectors: Vector[] };

t.equal(vectors.length, 2, 'both published vectors are there');
for (const vector of vectors) {
  t.test(`${vector.protocol_name} equals the published vector byte for byte`, async (t) => {
    const hash = HASHES[vector.protocol_name.split('_').at(-1) ?? '']!;
    const initiator = new HandshakeState({
      initiator: true,
      prologue: fromHex(vector.init_prologue),
      staticKeys: keyPairFrom(fromHex(vector.init_static)),
      ephemeralKeys: keyPairFrom(fromHex(vector.init_ephemeral)),
      hash,
    });
    const responder = new HandshakeState({
      initiator: false,
      prologue: fromHex(vector.resp_prologue),
      staticKeys: keyPairFrom(fromHex(vector.resp_static)),
      ephemeralKeys: keyPairFrom(fromHex(vector.resp_ephemeral)),
      hash,
    });
    for (const [index, { payload, ciphertext }] of vector.messages.slice(0, 3).entries()) {
      const [writer, reader] = index % 2 === 0 ? [initiator, responder] : [responder, initiator];
      const message = writer.writeMessage(() => fromHex(payload));
      t.equal(hex(message), ciphertext, `message ${index}`);
      t.equal(hex(reader.readMessage(message).payload), payload);
    }
    t.equal(hex(initiator.handshakeHash), vector.handshake_hash);
    t.equal(hex(responder.handshakeHash), vector.handshake_hash);
    const ends = [responder.split(), initiator.split()] as const;
    for (const [index, { payload, ciphertext }] of vector.messages.slice(3).entries()) {
      const [writer, reader] = index % 2 === 0 ? ends : [ends[1], ends[0]];
      const message = writer.send.encryptWithAd(none(), fromHex(payload));
      t.equal(hex(message), ciphertext, `transport message ${index}`);
      t.equal(hex(reader.receive.decryptWithAd(none(), message)), payload);
    }
  });
}

interface OracleState {
  initialise(prologue: Uint8Array): void;
  send(payload: Uint8Array): Uint8Array;
  recv(message: Uint8Array): Uint8Array;
  complete: boolean;
  hash: Uint8Array;
  tx: Uint8Array;
  rx: Uint8Array;
}
const Oracle = createRequire(import.meta.url)('noise-handshake') as new (
  pattern: string,
  initiator: boolean,
) => OracleState;

// noise-handshake fixes the hash to BLAKE2b, so the product's suite differs from it in the hash
// alone; tokens, key schedule order, framing of s and payloads are the same code.
for (const weInitiate of [true, false]) {
  t.test(
    `interoperates with noise-handshake as ${weInitiate ? 'initiator' : 'responder'}`,
    async (t) => {
      const oracle = new Oracle('XX', !weInitiate);
      oracle.initialise(Buffer.from('test'));
      const ours = pair({ hash: HASHES['BLAKE2b']! })[weInitiate ? 0 : 1];
      for (let index = 0; index < 3; index += 1) {
        const payload = Buffer.from(`payload ${index}`);
        if ((index % 2 === 0) === weInitiate) {
          const message = ours.writeMessage(() => payload);
          t.same(Buffer.from(oracle.recv(message)), payload);
        } else {
          t.same(Buffer.from(ours.readMessage(oracle.send(payload)).payload), payload);
        }
      }
      t.ok(oracle.complete && ours.complete);
      t.equal(hex(ours.handshakeHash), hex(oracle.hash));
      const { send, receive } = ours.split();
      t.equal(hex(send.takeKey()), hex(oracle.rx));
      t.equal(hex(receive.takeKey()), hex(oracle.tx));
    },
  );
}

t.test('the payload maker and the reader see the same handshake hash', async (t) => {
  const [initiator, responder] = pair();
  responder.readMessage(initiator.writeMessage(none));
  let written = none();
  const message = responder.writeMessage((h) => (written = h));
  const read = initiator.readMessage(message);
  t.equal(hex(read.handshakeHash), hex(written));
  t.equal(hex(read.payload), hex(written));
});

t.test('a different prologue fails at the first encrypted message', async (t) => {
  const [initiator] = pair({ prologue: Buffer.from('memcloud/1') });
  const [, responder] = pair({ prologue: Buffer.from('memcloud/2') });
  responder.readMessage(initiator.writeMessage(none));
  const message = responder.writeMessage(none);
  t.throws(() => initiator.readMessage(message), { code: 'ERR_PEER_AUTHENTICATION' });
});

t.test('every bit of messages 2 and 3 is authenticated', async (t) => {
  for (const target of [1, 2]) {
    for (let at = 0; at < (target === 1 ? 96 : 64); at += 1) {
      const [initiator, responder] = pair();
      responder.readMessage(initiator.writeMessage(none));
      const second = responder.writeMessage(none);
      if (target === 1) {
        second[at]! ^= 1 << (at % 8);
        t.throws(() => initiator.readMessage(second), { code: /ERR_PEER_(AUTH|HAND)/ });
        continue;
      }
      initiator.readMessage(second);
      const third = initiator.writeMessage(none);
      third[at]! ^= 1 << (at % 8);
      t.throws(() => responder.readMessage(third), { code: 'ERR_PEER_AUTHENTICATION' });
    }
  }
});

t.test('truncated messages are refused at every length', async (t) => {
  for (let length = 0; length < 96; length += 1) {
    const [initiator, responder] = pair();
    const first = initiator.writeMessage(none);
    if (length < 32) {
      t.throws(() => responder.readMessage(first.subarray(0, length)), {
        code: 'ERR_PEER_HANDSHAKE',
      });
      continue;
    }
    responder.readMessage(first);
    const second = responder.writeMessage(none);
    t.throws(() => initiator.readMessage(second.subarray(0, length)), {
      code: /ERR_PEER_(AUTHENTICATION|HANDSHAKE)/,
    });
  }
});

t.test('a key of small order is refused', async (t) => {
  const [, responder] = pair();
  responder.readMessage(new Uint8Array(32));
  t.throws(() => responder.writeMessage(none), { code: 'ERR_PEER_HANDSHAKE' });
});

t.test('a message over the Noise limit is refused', async (t) => {
  const [, responder] = pair();
  t.throws(() => responder.readMessage(new Uint8Array(NOISE_MESSAGE_SIZE_MAX + 1)), {
    code: 'ERR_PEER_HANDSHAKE',
  });
  t.equal(NOISE_MESSAGE_SIZE_MAX, 65535);
});

t.test('messages out of turn and an early split are defects of the caller', async (t) => {
  const [initiator, responder] = pair();
  t.throws(() => responder.writeMessage(none), { code: 'ERR_INTERNAL' });
  t.throws(() => initiator.split(), { code: 'ERR_INTERNAL' });
  initiator.writeMessage(none);
  t.throws(() => initiator.writeMessage(none), { code: 'ERR_INTERNAL' });
});

t.test('split zeroes the secrets that the handshake was given', async (t) => {
  const staticKeys = keyPairFrom(new Uint8Array(32).fill(7));
  const ephemeralKeys = keyPairFrom(new Uint8Array(32).fill(8));
  const [initiator] = pair({ staticKeys, ephemeralKeys });
  const [, responder] = pair();
  responder.readMessage(initiator.writeMessage(none));
  initiator.readMessage(responder.writeMessage(none));
  responder.readMessage(initiator.writeMessage(none));
  initiator.split();
  t.same(staticKeys.secretKey, new Uint8Array(32));
  t.same(ephemeralKeys.secretKey, new Uint8Array(32));
});
