/**
 * The client's negotiation as a machine that does no I/O. It always knows how many bytes it wants
 * next, to the byte, so that a shell can read exactly so many and never one of the transmission
 * phase: the socket can then be handed to the kernel.
 *
 * Order: greeting; client flags; EXTENDED_HEADERS, else STRUCTURED_REPLY (when wanted);
 * SET_META_CONTEXT (when wanted and possible); then GO, INFO or LIST. A server that does not know
 * GO gets EXPORT_NAME. Every reply is bounded in size and the replies to one option in number, and
 * each option must be answered before the next is sent, so a server can neither grow our memory nor
 * keep us beyond the shell's deadline. Source: proto.md "Fixed newstyle negotiation".
 */
import { MemcloudError } from '../../common/errors.ts';
import {
  NBD_BLOCK_SIZE_DEFAULT,
  NBD_CONTEXT_BASE_ALLOCATION,
  NBD_EXPORT_NAME_ZEROES_SIZE_BYTES,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_GREETING_SIZE_BYTES,
  NBD_INFO,
  NBD_OPT,
  NBD_OPTION_REPLY_HEADER_SIZE_BYTES,
  NBD_REP,
  NBD_REP_ERR,
  NBD_REP_FLAG_ERROR,
} from '../constants.ts';
import {
  decodeExportReply,
  decodeGreeting,
  decodeInformation,
  decodeMetaContext,
  decodeOptionReplyHeader,
  decodeServerReply,
  encodeClientFlags,
  encodeExportName,
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  protocolError,
  serverText,
  type HeaderStyle,
  type OptionReplyHeader,
} from './codec.ts';

/** Most bytes of one option reply's data: a name, a description and their lengths, with room. */
const REPLY_DATA_SIZE_MAX = 16 * 1024;
/** Most replies to LIST: more exports than that are cut off as an error. */
const LIST_REPLY_COUNT_MAX = 4096;
/** Most replies to any other option. */
const REPLY_COUNT_MAX = 64;

/** What the client wants. */
export interface NegotiationRequest {
  /** `go`: enter transmission; `info`: learn about the export; `list`: learn the exports' names. */
  readonly goal: 'go' | 'info' | 'list';
  /** The export; not used by `list`. */
  readonly exportName: string;
  /** The best framing to ask for; a server may know only a lesser one. */
  readonly headerStyle: HeaderStyle;
  /** Ask for `base:allocation`; needs a style above `simple`. */
  readonly allocationContext: boolean;
}

/** What an export is and how it is spoken to. */
export interface NegotiatedExport {
  /** Bytes. */
  readonly sizeBytes: number;
  /** `NBD_FLAG_*`, 16 bits. */
  readonly transmissionFlags: number;
  /** Bytes; the protocol's defaults where the server said nothing. */
  readonly blockSize: {
    readonly minimum: number;
    readonly preferred: number;
    readonly maximumPayload: number;
  };
  /** The server's text about the export, empty when it sent none. */
  readonly description: string;
  /** How requests and replies are framed. */
  readonly headerStyle: HeaderStyle;
  /** The id of `base:allocation`, when the server has it. */
  readonly allocationContextId: number | undefined;
}

/** One export of a LIST. */
export interface ListedExport {
  /** Its name. */
  readonly name: string;
  /** The server's text about it. */
  readonly description: string;
}

/** How a negotiation ended. */
export type NegotiationOutcome =
  | { readonly goal: 'go' | 'info'; readonly export: NegotiatedExport }
  | { readonly goal: 'list'; readonly exports: readonly ListedExport[] };

/** What the shell does after it handed bytes in. */
export interface NegotiationStep {
  /** To send, maybe empty. */
  readonly send: Buffer;
  /** Set at the end; after `info` and `list` the shell closes. */
  readonly outcome: NegotiationOutcome | undefined;
}

type State =
  /** Waits for the 18 bytes of the greeting. */
  | 'greeting'
  /** Waits for the 20 bytes before a reply's data. */
  | 'replyHeader'
  /** Waits for a reply's data. */
  | 'replyData'
  /** Waits for size and flags after EXPORT_NAME, which has no reply header. */
  | 'exportReply'
  /** Ended; takes nothing more. */
  | 'done';

const FINAL_OPTION = {
  go: NBD_OPT.NBD_OPT_GO,
  info: NBD_OPT.NBD_OPT_INFO,
  list: NBD_OPT.NBD_OPT_LIST,
} as const;

/** One negotiation. */
export class ClientNegotiation {
  readonly #request: NegotiationRequest;
  readonly #listed: ListedExport[] = [];
  #state: State = 'greeting';
  #wanted: number = NBD_GREETING_SIZE_BYTES;
  #noZeroes = false;
  #option = 0;
  #replyCount = 0;
  #header: OptionReplyHeader | undefined;
  #headerStyle: HeaderStyle = 'simple';
  #allocationContextId: number | undefined;
  #size: { sizeBytes: number; transmissionFlags: number } | undefined;
  #blockSize: NegotiatedExport['blockSize'] = NBD_BLOCK_SIZE_DEFAULT;
  #description = '';

  /** @param request - what to reach */
  constructor(request: NegotiationRequest) {
    this.#request = request;
  }

  /** How many bytes the next {@link ClientNegotiation.receive} must get; 0 when ended. */
  get wantedBytes(): number {
    return this.#wanted;
  }

  /**
   * Takes exactly the wanted bytes, which stay the caller's.
   *
   * @throws MemcloudError `ERR_NBD_PROTOCOL`, `ERR_NBD_OPTION`, `ERR_NBD_EXPORT_UNKNOWN`; the
   *   connection must then be closed
   */
  receive(bytes: Buffer): NegotiationStep {
    if (bytes.length !== this.#wanted || this.#state === 'done') {
      throw new MemcloudError('ERR_INTERNAL', 'negotiation: handed other bytes than it wanted');
    }
    switch (this.#state) {
      case 'greeting':
        return this.#onGreeting(bytes);
      case 'replyHeader':
        return this.#onReplyHeader(bytes);
      case 'replyData':
        return this.#onReply(bytes);
      case 'exportReply':
        this.#size = decodeExportReply(bytes);
        return this.#finish();
    }
  }

  #onGreeting(bytes: Buffer): NegotiationStep {
    const { fixedNewstyle, noZeroes } = decodeGreeting(bytes);
    if (!fixedNewstyle) {
      throw protocolError('the server is too old: it does not speak fixed newstyle');
    }
    this.#noZeroes = noZeroes;
    const flags = NBD_FLAG_C_FIXED_NEWSTYLE | (noZeroes ? NBD_FLAG_C_NO_ZEROES : 0);
    const { send } = this.#firstOption();
    return { send: Buffer.concat([encodeClientFlags(flags), send]), outcome: undefined };
  }

  #firstOption(): NegotiationStep {
    const { goal, headerStyle } = this.#request;
    if (goal === 'list' || headerStyle === 'simple') return this.#finalOption();
    if (headerStyle === 'extended') return this.#ask(NBD_OPT.NBD_OPT_EXTENDED_HEADERS);
    return this.#ask(NBD_OPT.NBD_OPT_STRUCTURED_REPLY);
  }

  #metaContextOrFinal(): NegotiationStep {
    const { allocationContext, exportName } = this.#request;
    if (!allocationContext || this.#headerStyle === 'simple') return this.#finalOption();
    const data = encodeMetaContextData(exportName, NBD_CONTEXT_BASE_ALLOCATION);
    return this.#ask(NBD_OPT.NBD_OPT_SET_META_CONTEXT, data);
  }

  #finalOption(): NegotiationStep {
    const { goal, exportName } = this.#request;
    if (goal === 'list') return this.#ask(NBD_OPT.NBD_OPT_LIST);
    const wanted = [NBD_INFO.NBD_INFO_DESCRIPTION, NBD_INFO.NBD_INFO_BLOCK_SIZE];
    return this.#ask(FINAL_OPTION[goal], encodeInfoData(exportName, wanted));
  }

  #ask(option: number, data?: Uint8Array): NegotiationStep {
    this.#option = option;
    this.#replyCount = 0;
    this.#expectReplyHeader();
    return { send: encodeOption(option, data), outcome: undefined };
  }

  #expectReplyHeader(): NegotiationStep {
    this.#state = 'replyHeader';
    this.#wanted = NBD_OPTION_REPLY_HEADER_SIZE_BYTES;
    return { send: Buffer.alloc(0), outcome: undefined };
  }

  #onReplyHeader(bytes: Buffer): NegotiationStep {
    const header = decodeOptionReplyHeader(bytes);
    if (header.option !== this.#option) {
      throw protocolError(
        `option reply: expected one to option ${this.#option}, got one to ${header.option}`,
      );
    }
    if (header.dataLength > REPLY_DATA_SIZE_MAX) {
      throw protocolError(
        `option reply: expected at most ${REPLY_DATA_SIZE_MAX} bytes, got ${header.dataLength}`,
      );
    }
    const most = this.#option === NBD_OPT.NBD_OPT_LIST ? LIST_REPLY_COUNT_MAX : REPLY_COUNT_MAX;
    this.#replyCount += 1;
    if (this.#replyCount > most) {
      throw protocolError(`option ${this.#option}: more than ${most} replies`);
    }
    this.#header = header;
    if (header.dataLength === 0) return this.#onReply(Buffer.alloc(0));
    this.#state = 'replyData';
    this.#wanted = header.dataLength;
    return { send: Buffer.alloc(0), outcome: undefined };
  }

  #onReply(data: Buffer): NegotiationStep {
    const type = this.#header?.type ?? 0;
    if (type >= NBD_REP_FLAG_ERROR) return this.#onErrorReply(type, data);
    if (type === NBD_REP.NBD_REP_ACK) return this.#onAck();
    const list = this.#option === NBD_OPT.NBD_OPT_LIST;
    const info = this.#option === NBD_OPT.NBD_OPT_GO || this.#option === NBD_OPT.NBD_OPT_INFO;
    const meta = this.#option === NBD_OPT.NBD_OPT_SET_META_CONTEXT;
    if (list && type === NBD_REP.NBD_REP_SERVER) this.#listed.push(decodeServerReply(data));
    else if (info && type === NBD_REP.NBD_REP_INFO) this.#onInformation(data);
    else if (meta && type === NBD_REP.NBD_REP_META_CONTEXT) this.#onMetaContext(data);
    else throw protocolError(`option ${this.#option}: unexpected reply type ${type}`);
    return this.#expectReplyHeader();
  }

  #onAck(): NegotiationStep {
    switch (this.#option) {
      case NBD_OPT.NBD_OPT_EXTENDED_HEADERS:
        this.#headerStyle = 'extended';
        return this.#metaContextOrFinal();
      case NBD_OPT.NBD_OPT_STRUCTURED_REPLY:
        this.#headerStyle = 'structured';
        return this.#metaContextOrFinal();
      case NBD_OPT.NBD_OPT_SET_META_CONTEXT:
        return this.#finalOption();
      default:
        return this.#finish();
    }
  }

  #onErrorReply(type: number, data: Buffer): NegotiationStep {
    switch (this.#option) {
      case NBD_OPT.NBD_OPT_EXTENDED_HEADERS:
        return this.#ask(NBD_OPT.NBD_OPT_STRUCTURED_REPLY);
      case NBD_OPT.NBD_OPT_STRUCTURED_REPLY:
      case NBD_OPT.NBD_OPT_SET_META_CONTEXT:
        // Wishes, not needs: a server that lacks them is spoken to without. A real refusal
        // (TLS, an unknown export) comes again as the answer to GO, and counts there.
        this.#allocationContextId = undefined;
        return this.#finalOption();
      case NBD_OPT.NBD_OPT_GO:
        if (type === NBD_REP_ERR.NBD_REP_ERR_UNSUP) return this.#askByExportName();
    }
    throw refusal(this.#option, type, this.#request.exportName, data);
  }

  #askByExportName(): NegotiationStep {
    this.#state = 'exportReply';
    this.#wanted = 10 + (this.#noZeroes ? 0 : NBD_EXPORT_NAME_ZEROES_SIZE_BYTES);
    const name = encodeExportName(this.#request.exportName);
    return { send: encodeOption(NBD_OPT.NBD_OPT_EXPORT_NAME, name), outcome: undefined };
  }

  #onInformation(data: Buffer): void {
    const information = decodeInformation(data);
    switch (information.type) {
      case 'export':
        this.#size = information;
        break;
      case 'blockSize':
        this.#blockSize = information;
        break;
      case 'description':
        this.#description = serverText(Buffer.from(information.text));
        break;
      case 'name':
      case 'unknown':
        break;
    }
  }

  #onMetaContext(data: Buffer): void {
    const { id, name } = decodeMetaContext(data);
    if (name !== NBD_CONTEXT_BASE_ALLOCATION) {
      throw protocolError('meta context: the server chose one that was not asked for');
    }
    this.#allocationContextId = id;
  }

  #finish(): NegotiationStep {
    this.#state = 'done';
    this.#wanted = 0;
    const { goal } = this.#request;
    const abort = encodeOption(NBD_OPT.NBD_OPT_ABORT);
    if (goal === 'list') return { send: abort, outcome: { goal, exports: this.#listed } };
    if (this.#size === undefined) throw protocolError('the server sent no NBD_INFO_EXPORT');
    const { sizeBytes, transmissionFlags } = this.#size;
    const { minimum, preferred, maximumPayload } = this.#blockSize;
    return {
      send: goal === 'info' ? abort : Buffer.alloc(0),
      outcome: {
        goal,
        export: {
          sizeBytes,
          transmissionFlags,
          blockSize: { minimum, preferred, maximumPayload },
          description: this.#description,
          headerStyle: this.#headerStyle,
          allocationContextId: this.#allocationContextId,
        },
      },
    };
  }
}

function refusal(option: number, type: number, name: string, data: Buffer): MemcloudError {
  const text = serverText(data);
  const said = text === '' ? '' : `; it said: ${text}`;
  if (type === NBD_REP_ERR.NBD_REP_ERR_UNKNOWN) {
    return new MemcloudError(
      'ERR_NBD_EXPORT_UNKNOWN',
      `the NBD server has no export "${serverText(Buffer.from(name))}"${said}`,
    );
  }
  const names = Object.entries({ ...NBD_OPT, ...NBD_REP_ERR });
  const nameOf = (value: number): string =>
    names.find(([, number]) => number === value)?.[0] ?? `0x${value.toString(16)}`;
  return new MemcloudError(
    'ERR_NBD_OPTION',
    `the NBD server refused ${nameOf(option)} with ${nameOf(type)}${said}`,
  );
}
