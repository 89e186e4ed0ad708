/**
 * The other end of a connection in the hands of a test: it shakes hands as the protocol says, or up
 * to the step that the test wants, and then sends whatever the test builds, sealed properly or not.
 * It shares codecs and ciphers with the product (those are held to vectors elsewhere) but none of its
 * machines for sessions.
 */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { NativeMemory } from '../../common/native-memory.ts';
import type { ProviderUsage } from '../../common/ports.ts';
import { decodeHello, encodeHello, type AcceptedHello, type Hello } from '../../peer/control.ts';
import {
  emptyRecordLayout,
  encodeHandshakeFrame,
  handshakeFrameSize,
  readRecordLayout,
} from '../../peer/frame.ts';
import { HandshakeMachine } from '../../peer/handshake-machine.ts';
import { Identity } from '../../peer/identity.ts';
import { MessageCursor } from '../../peer/messages.ts';
import { RecordOpener, RecordSealer } from '../../peer/record-cipher.ts';
import { RecordWriter } from '../../peer/record-writer.ts';
import { MemoryOutput } from './session-pair.ts';

const WRITE = 0x02;
const HELLO = 0x70;
const READ_REPLY = 0x81;

/** A message as a test sees it. */
export interface RawMessage {
  type: number;
  aux: number;
  idLow: number;
  idHigh: number;
  pageCount: number;
  body: Buffer;
  /** First page of a READ, WRITE or TRIM. */
  firstPage: number;
  /** The sealed pages of a WRITE or READ_REPLY. */
  pages: Buffer;
}

/** One raw connection. */
export class RawPeer {
  readonly socket: net.Socket;
  readonly identity: Identity;
  readonly messages: RawMessage[] = [];
  closed = false;
  /** Names the handshake, once it is done. */
  handshakeHash: Uint8Array = new Uint8Array(0);
  readonly #name: string;
  readonly #output = new MemoryOutput();
  readonly #input = new NativeMemory(8 * 2 ** 20);
  readonly #waiters: (() => void)[] = [];
  #unread = Buffer.alloc(0);
  #arrived: Buffer[] = [];
  #writer: RecordWriter | undefined;
  #opener: RecordOpener | undefined;

  constructor(socket: net.Socket, name = 'raw', identity = Identity.ephemeral()) {
    this.socket = socket;
    this.identity = identity;
    this.#name = name;
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      this.#arrived.push(bytes);
      this.#wake();
    });
    socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Connects to a port of this machine. */
  static async connect(port: number, name?: string, identity?: Identity): Promise<RawPeer> {
    const socket = net.connect({ host: '127.0.0.1', port });
    const peer = new RawPeer(socket, name, identity);
    await new Promise((resolve) => socket.once('connect', resolve));
    return peer;
  }

  /** Connects, shakes hands and exchanges verdicts. */
  static async open(port: number, name?: string, identity?: Identity): Promise<RawPeer> {
    const peer = await RawPeer.connect(port, name, identity);
    await peer.handshake('initiator');
    await peer.accept();
    return peer;
  }

  /** The three Noise messages. */
  async handshake(role: 'initiator' | 'responder'): Promise<void> {
    const { identity } = this;
    const machine = new HandshakeMachine({
      role,
      identity,
      name: this.#name,
      secrets: randomBytes(64),
    });
    if (role === 'initiator') {
      this.socket.write(encodeHandshakeFrame(machine.begin()));
      machine.onMessage(await this.readFrame());
      this.socket.write(encodeHandshakeFrame(machine.proceed()));
    } else {
      const answer = machine.onMessage(await this.readFrame());
      this.socket.write(encodeHandshakeFrame(answer!));
      machine.onMessage(await this.readFrame());
    }
    const { send, receive, handshakeHash } = machine.takeKeys();
    this.handshakeHash = handshakeHash;
    this.#writer = new RecordWriter(this.#output, new RecordSealer(send, 0), 0);
    this.#opener = new RecordOpener(receive);
  }

  /** Says `accepted` and waits for the same. */
  async accept(
    features: string[] = [],
    usage: ProviderUsage = { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
    { lane = '', port = 0 } = {},
  ): Promise<AcceptedHello> {
    this.hello({
      verdict: 'accepted',
      limits: { requestCountMax: 1024, pageBytesMax: 4096 * 4112 },
      usage,
      features,
      ...{ hostId: '', zone: '', accepting: true, lane, port },
    });
    const hello = await this.readHello();
    if (hello.verdict !== 'accepted') throw new Error(`verdict ${hello.verdict}`);
    return hello;
  }

  /** Sends a HELLO. */
  hello(hello: Hello): void {
    this.send((writer) => writer.body(HELLO, 0, 0, encodeHello(hello)));
  }

  /** Reads a HELLO. */
  async readHello(): Promise<Hello> {
    const message = await this.read();
    if (message.type !== HELLO) throw new Error(`type ${message.type}`);
    return decodeHello(message.body);
  }

  /** Builds records, properly sealed, and returns their bytes unsent. */
  build(fill: (writer: RecordWriter) => void): Buffer {
    fill(this.#writer!);
    this.#writer!.close();
    return this.#output.take();
  }

  /** Builds records and sends them. */
  send(fill: (writer: RecordWriter) => void): void {
    this.socket.write(this.build(fill));
  }

  /** Puts pages of `fill` bytes into the record that is being built. */
  static pages(writer: RecordWriter, count: number, fill: number): void {
    const offset = writer.placePages(count);
    writer.pageMemory.bytes.fill(fill, offset, offset + count * 4112);
    writer.keepPages(count);
  }

  /** The next handshake message. */
  async readFrame(): Promise<Buffer> {
    for (;;) {
      this.#gather();
      const size = handshakeFrameSize(this.#unread, 0, this.#unread.length);
      if (size > 0) {
        const message = Buffer.from(this.#unread.subarray(2, size));
        this.#unread = this.#unread.subarray(size);
        return message;
      }
      await this.#more();
    }
  }

  /** The next message, of whatever record. Rejects when the connection ended. */
  async read(): Promise<RawMessage> {
    while (this.messages.length === 0) {
      if (!this.#takeRecord()) await this.#more();
    }
    return this.messages.shift()!;
  }

  /** The next message of a type; others are dropped. */
  async readType(type: number): Promise<RawMessage> {
    for (;;) {
      const message = await this.read();
      if (message.type === type) return message;
    }
  }

  /** Resolves when the other side ended the connection. */
  async ended(): Promise<void> {
    while (!this.closed) await this.#wait();
  }

  /** Ends the connection and frees its memory. */
  async destroy(): Promise<void> {
    this.socket.destroy();
    await this.ended();
    this.#writer?.destroy();
    this.#opener?.destroy();
    this.#output.free();
    this.#input.free();
  }

  #gather(): void {
    if (this.#arrived.length === 0) return;
    this.#unread = Buffer.concat([this.#unread, ...this.#arrived.splice(0)]);
  }

  #takeRecord(): boolean {
    this.#gather();
    this.#unread.copy(this.#input.bytes);
    const { bytes } = this.#input;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const layout = emptyRecordLayout();
    if (!readRecordLayout(view, 0, this.#unread.length, layout)) return false;
    this.#opener!.open(this.#input, 0, layout.pagesLength, layout.headLength);
    const cursor = new MessageCursor();
    cursor.reset(view, 8 + layout.pagesLength, layout.headLength);
    let pagesAt = 8;
    while (cursor.next()) {
      const { type, aux, idLow, idHigh, pageCount, firstPage, bodyOffset, bodyLength } = cursor;
      const body = Buffer.from(bytes.subarray(bodyOffset, bodyOffset + bodyLength));
      const carries = type === WRITE || (type === READ_REPLY && aux === 0);
      const pagesEnd = pagesAt + (carries ? pageCount * 4112 : 0);
      const pages = Buffer.from(bytes.subarray(pagesAt, pagesEnd));
      pagesAt = pagesEnd;
      this.messages.push({ type, aux, idLow, idHigh, pageCount, firstPage, body, pages });
    }
    this.#unread = this.#unread.subarray(layout.size);
    return true;
  }

  async #more(): Promise<void> {
    if (this.closed) throw new Error('the connection has ended');
    await this.#wait();
  }

  #wait(): Promise<void> {
    if (this.closed) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}

/** Listens on a port of this machine and gives every connection to a test. */
export async function rawServer(
  onPeer: (peer: RawPeer) => void | Promise<void>,
  name?: string,
  identity?: Identity,
): Promise<{ port: number; close: () => void }> {
  const server = net.createServer((socket) => void onPeer(new RawPeer(socket, name, identity)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as net.AddressInfo).port, close: () => server.close() };
}
