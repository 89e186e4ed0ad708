import t from 'tap';
import {
  DIRECT_PREFACE_SIZE_BYTES,
  directTicketId,
  opensDirect,
} from '../../peer/direct-preface.ts';
import { handshakeFrameSize } from '../../peer/frame.ts';

const TICKET_ID = '000102030405060708090a0b0c0d0eff';
/** "MCDIRECT" and the 16 bytes of the ticket id. */
const PREFACE = Buffer.from(`4d43444952454354${TICKET_ID}`, 'hex');

t.test('a preface is 24 bytes, and read at any place', async (t) => {
  t.equal(DIRECT_PREFACE_SIZE_BYTES, 24);
  for (const before of [0, 1, 7]) {
    const bytes = Buffer.concat([Buffer.alloc(before, 0x4d), PREFACE, Buffer.from('more')]);
    t.ok(opensDirect(bytes, before, bytes.length));
    t.equal(directTicketId(bytes, before, bytes.length), TICKET_ID);
    t.equal(directTicketId(bytes, before, before + 24), TICKET_ID);
  }
});

t.test('every part of it may still become one, and names no ticket yet', async (t) => {
  t.notOk(opensDirect(PREFACE, 0, 0), 'nothing is no beginning');
  for (let length = 1; length < 24; length += 1) {
    // What lies behind the end does not count.
    t.ok(opensDirect(PREFACE, 0, length), `${length} bytes`);
    t.equal(directTicketId(PREFACE, 0, length), undefined);
  }
});

t.test('a byte of the magic that differs is seen as soon as it is there', async (t) => {
  for (let at = 0; at < 8; at += 1) {
    const bytes = Buffer.from(PREFACE);
    bytes[at]! ^= 0x20;
    t.notOk(opensDirect(bytes, 0, at + 1));
    t.notOk(opensDirect(bytes, 0, 24));
    if (at > 0) t.ok(opensDirect(bytes, 0, at), 'and not before');
  }
});

t.test('as a handshake frame it is too long, from its second byte on', async (t) => {
  t.equal(handshakeFrameSize(PREFACE, 0, 1), 0);
  t.throws(() => handshakeFrameSize(PREFACE, 0, 2), {
    code: 'ERR_PEER_HANDSHAKE',
    message: /19779/,
  });
});
