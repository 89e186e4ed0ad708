/**
 * A client that speaks NBD byte by byte, for tests of what well-behaved clients never send. Wire
 * numbers are literals here: the tests must not verify the product's constants with themselves.
 */
import net from 'node:net';

/** Bytes of an unsigned number, big endian. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** A string after its 32-bit length. */
export function counted(text: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** An option with its data. */
export function option(number: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(data.length), data]);
}

/** The data of INFO (6) and GO (7). */
export function infoData(name: string, infoTypes: readonly number[] = []): Buffer {
  return Buffer.concat([counted(name), u16(infoTypes.length), ...infoTypes.map(u16)]);
}

/** The data of LIST_META_CONTEXT (9) and SET_META_CONTEXT (10). */
export function metaData(name: string, queries: readonly string[]): Buffer {
  return Buffer.concat([counted(name), u32(queries.length), ...queries.map(counted)]);
}

/** Parts of a request. */
export interface RawRequest {
  command: number;
  flags?: number;
  cookie?: bigint;
  offset?: number | bigint;
  length?: number | bigint;
  payload?: Uint8Array;
}

/** A compact request, 28 bytes and the payload. */
export function request(parts: RawRequest): Buffer {
  const { command, flags = 0, cookie = 1n, offset = 0, length = 0 } = parts;
  return Buffer.concat([
    u32(0x25609513),
    u16(flags),
    u16(command),
    u64(cookie),
    u64(offset),
    u32(Number(length)),
    parts.payload ?? Buffer.alloc(0),
  ]);
}

/** An extended request, 32 bytes and the payload. */
export function extendedRequest(parts: RawRequest): Buffer {
  const { command, flags = 0, cookie = 1n, offset = 0, length = 0 } = parts;
  return Buffer.concat([
    u32(0x21e41c71),
    u16(flags),
    u16(command),
    u64(cookie),
    u64(offset),
    u64(length),
    parts.payload ?? Buffer.alloc(0),
  ]);
}

/** An answer to an option. */
export interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

/** A reply of any framing; `type` is undefined for a simple one. */
export interface RawReply {
  cookie: bigint;
  error: number;
  type?: number;
  flags?: number;
  offset?: bigint;
  data: Buffer;
}

/** How replies are framed. */
export type RawMode = 'simple' | 'structured' | 'extended';

/** A connection under the test's full control. */
export class RawClient {
  readonly socket: net.Socket;
  mode: RawMode = 'simple';
  #chunks: Buffer[] = [];
  #received = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#received += chunk.length;
      this.#wake?.();
    });
    for (const event of ['end', 'error', 'close'] as const) {
      socket.on(event, () => {
        this.#ended = true;
        this.#wake?.();
      });
    }
  }

  static async connect(target: net.NetConnectOpts): Promise<RawClient> {
    const socket = net.connect(target);
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** Connects, takes the greeting, sends the flags, and asks for an export in the given mode. */
  static async open(
    target: net.NetConnectOpts,
    mode: RawMode,
    name = 'memory',
    contexts = true,
  ): Promise<RawClient> {
    const client = await RawClient.connect(target);
    await client.read(18);
    client.send(u32(3));
    if (mode !== 'simple') {
      client.send(option(mode === 'extended' ? 11 : 8));
      await client.optionReplies();
      if (contexts) {
        client.send(option(10, metaData(name, ['base:allocation'])));
        await client.optionReplies();
      }
    }
    client.send(option(7, infoData(name)));
    const last = (await client.optionReplies()).at(-1);
    if (last?.type !== 1) throw new Error(`GO was refused: ${last?.type}`);
    client.mode = mode;
    return client;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next bytes; rejects when the server closes or nothing comes for 5 s. */
  async read(length: number): Promise<Buffer> {
    const deadline = Date.now() + 5000;
    while (this.#received < length) {
      if (this.#ended) throw new Error(`closed after ${this.#received} of ${length} bytes`);
      if (Date.now() > deadline) throw new Error(`no ${length} bytes within 5 s`);
      await this.#event(100);
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(length)];
    this.#received -= length;
    return all.subarray(0, length);
  }

  /** True when the server closed the connection within the time and sent nothing more. */
  async closed(withinMs = 3000): Promise<boolean> {
    const deadline = Date.now() + withinMs;
    while (!this.#ended && Date.now() < deadline) await this.#event(20);
    return this.#ended && this.#received === 0;
  }

  async optionReply(): Promise<OptionReply> {
    const header = await this.read(20);
    if (header.readBigUInt64BE(0) !== 0x3e889045565a9n) throw new Error('option reply magic');
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** Replies up to the final one (ACK or an error). */
  async optionReplies(): Promise<OptionReply[]> {
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === 1 || reply.type >= 0x80000000) return replies;
    }
  }

  /** Sends a request in the mode's framing. */
  request(parts: RawRequest): void {
    this.send(this.mode === 'extended' ? extendedRequest(parts) : request(parts));
  }

  /** The next reply; `dataLength` is what a simple reply without error carries. */
  async reply(dataLength = 0): Promise<RawReply> {
    const magic = (await this.read(4)).readUInt32BE();
    if (magic === 0x67446698) {
      const rest = await this.read(12);
      const error = rest.readUInt32BE(0);
      const data = await this.read(error === 0 ? dataLength : 0);
      return { cookie: rest.readBigUInt64BE(4), error, data };
    }
    const extended = this.mode === 'extended';
    if (magic !== (extended ? 0x6e8a278c : 0x668e33ef)) {
      throw new Error(`reply magic 0x${magic.toString(16)}`);
    }
    const rest = await this.read(extended ? 28 : 16);
    const type = rest.readUInt16BE(2);
    const length = extended ? Number(rest.readBigUInt64BE(20)) : rest.readUInt32BE(12);
    const data = await this.read(length);
    return {
      flags: rest.readUInt16BE(0),
      type,
      cookie: rest.readBigUInt64BE(4),
      ...(extended && { offset: rest.readBigUInt64BE(12) }),
      error: type >= 0x8000 ? data.readUInt32BE(0) : 0,
      data,
    };
  }

  /** Sends a request and takes its reply. */
  async ask(parts: RawRequest, dataLength = 0): Promise<RawReply> {
    this.request(parts);
    return this.reply(dataLength);
  }

  destroy(): void {
    this.socket.destroy();
  }

  #event(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
