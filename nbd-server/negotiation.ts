/**
 * The handshake of fixed newstyle as a machine: bytes of the client go in, actions for the shell
 * come out (proto.md "Newstyle negotiation", "Option types"). It keeps no bytes: it consumes whole
 * options and is offered the rest again.
 *
 * What it defends: an option that it does not know or that is malformed is answered and skipped, so
 * that the stream stays in step; the number and size of options are bounded; and STARTTLS forgets
 * everything that was negotiated in the clear, and refuses bytes that came in the clear after it
 * (the class of CVE-2021-3716).
 */
import {
  NBD_ALLOCATION_CONTEXT_ID,
  NBD_BLOCK_SIZE_DEFAULT,
  NBD_CLIENT_FLAGS_SIZE_BYTES,
  NBD_CONTEXT_BASE_ALLOCATION,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_IHAVEOPT,
  NBD_INFO,
  NBD_OPT,
  NBD_OPTION_COUNT_MAX,
  NBD_OPTION_DATA_SIZE_MAX_BYTES,
  NBD_OPTION_HEADER_SIZE_BYTES,
  NBD_OPTION_SKIP_SIZE_MAX_BYTES,
  NBD_REP,
  NBD_REP_ERR,
} from './constants.ts';
import { transmissionFlags, type ExportDirectory, type ExportInfo } from './export-info.ts';
import { ReplyMode, type ReplyModeValue } from './message-codec.ts';
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeString,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerData,
  encodeText,
  viewOf,
  type InfoRequest,
} from './option-codec.ts';

/** Whether a client must, may or cannot turn to TLS. proto.md "TLS support". */
export type TlsPolicy = 'off' | 'allow' | 'require';

/** What the shell has to do. */
export type NegotiationAction =
  /** Send the bytes. */
  | { readonly kind: 'send'; readonly bytes: Uint8Array }
  /** Begin TLS as the server, once everything is sent, then call {@link Negotiation.tlsStarted}. */
  | { readonly kind: 'startTls' }
  /** The handshake is over: serve the export. */
  | {
      readonly kind: 'transmit';
      readonly exportName: string;
      readonly mode: ReplyModeValue;
      readonly allocationContext: boolean;
    }
  /** Close once everything is sent; `breach` says what the client did wrong, if anything. */
  | { readonly kind: 'close'; readonly breach?: string };

/** The states. */
type NegotiationState =
  /** The greeting is out; the client's flags are next. */
  | 'awaitFlags'
  /** An option is next. */
  | 'awaitOption'
  /** STARTTLS was granted; nothing may come before TLS is up. */
  | 'awaitTls'
  /** The handshake is over, well or badly. */
  | 'over';

/** The server's side of one handshake. */
export class Negotiation {
  readonly #exports: ExportDirectory;
  readonly #tls: TlsPolicy;
  #state: NegotiationState = 'awaitFlags';
  #fixedNewstyle = false;
  #zeroes = true;
  #optionCount = 0;
  #skipBytes = 0;
  #secure = false;
  #shuttingDown = false;
  #mode: ReplyModeValue = ReplyMode.SIMPLE;
  /** The name that SET_META_CONTEXT chose `base:allocation` for. */
  #contextExportName: string | undefined;
  #actions: NegotiationAction[] = [];

  /**
   * @param exports - asked anew for each option
   * @param tls - whether TLS is offered or demanded
   */
  constructor(exports: ExportDirectory, tls: TlsPolicy) {
    this.#exports = exports;
    this.#tls = tls;
  }

  /** The bytes that the server sends first. */
  greeting(): Uint8Array {
    return encodeGreeting();
  }

  /** From now on options are answered with ERR_SHUTDOWN. */
  shutDown(): void {
    this.#shuttingDown = true;
  }

  /** The shell finished the TLS handshake. Everything agreed in the clear is forgotten. */
  tlsStarted(): void {
    this.#secure = true;
    this.#mode = ReplyMode.SIMPLE;
    this.#contextExportName = undefined;
    this.#state = 'awaitOption';
  }

  /**
   * Takes bytes of the client.
   *
   * @param bytes - all that is unread; borrowed until the return
   * @returns how many were consumed, and what to do, in order
   */
  receive(bytes: Uint8Array): { consumed: number; actions: readonly NegotiationAction[] } {
    this.#actions = [];
    let at = 0;
    while (this.#state !== 'over') {
      const rest = bytes.subarray(at);
      const consumed = this.#step(rest);
      if (consumed === 0) break;
      at += consumed;
    }
    return { consumed: at, actions: this.#actions };
  }

  /** Consumes one message, or nothing when it is not all there. */
  #step(bytes: Uint8Array): number {
    if (this.#skipBytes > 0) {
      const skipped = Math.min(this.#skipBytes, bytes.length);
      this.#skipBytes -= skipped;
      return skipped;
    }
    switch (this.#state) {
      case 'awaitFlags':
        return this.#onClientFlags(bytes);
      case 'awaitOption':
        return this.#onOption(bytes);
      case 'awaitTls':
        if (bytes.length > 0) this.#close('the client sent bytes in the clear after STARTTLS');
        return 0;
      case 'over':
        return 0;
    }
  }

  #onClientFlags(bytes: Uint8Array): number {
    if (bytes.length < NBD_CLIENT_FLAGS_SIZE_BYTES) return 0;
    const flags = viewOf(bytes).getUint32(0);
    this.#fixedNewstyle = (flags & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
    this.#zeroes = (flags & NBD_FLAG_C_NO_ZEROES) === 0;
    this.#state = 'awaitOption';
    if ((flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) !== 0) {
      this.#close(`the client set unknown flags: 0x${flags.toString(16)}`);
    }
    return NBD_CLIENT_FLAGS_SIZE_BYTES;
  }

  #onOption(bytes: Uint8Array): number {
    if (bytes.length < NBD_OPTION_HEADER_SIZE_BYTES) return 0;
    const view = viewOf(bytes);
    const option = view.getUint32(8);
    const length = view.getUint32(12);
    const end = NBD_OPTION_HEADER_SIZE_BYTES + length;
    if (view.getBigUint64(0) !== NBD_IHAVEOPT) {
      this.#close('the client sent an option with a wrong magic');
      return bytes.length;
    }
    if (length > NBD_OPTION_DATA_SIZE_MAX_BYTES) return this.#onLongOption(option, length);
    if (bytes.length < end) return 0;
    this.#optionCount += 1;
    if (this.#optionCount > NBD_OPTION_COUNT_MAX) {
      this.#close(`the client sent more than ${NBD_OPTION_COUNT_MAX} options`);
    } else {
      this.#dispatch(option, bytes.subarray(NBD_OPTION_HEADER_SIZE_BYTES, end));
    }
    return end;
  }

  #onLongOption(option: number, length: number): number {
    this.#optionCount += 1;
    if (
      option === NBD_OPT.NBD_OPT_EXPORT_NAME ||
      !this.#fixedNewstyle ||
      length > NBD_OPTION_SKIP_SIZE_MAX_BYTES ||
      this.#optionCount > NBD_OPTION_COUNT_MAX
    ) {
      this.#close(`the client sent ${length} bytes of data with option ${option}`);
    } else {
      const limit = `option data: expected at most ${NBD_OPTION_DATA_SIZE_MAX_BYTES} bytes`;
      this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_TOO_BIG, `${limit}, got ${length}`);
      this.#skipBytes = length;
    }
    return NBD_OPTION_HEADER_SIZE_BYTES;
  }

  #dispatch(option: number, data: Uint8Array): void {
    if (option === NBD_OPT.NBD_OPT_EXPORT_NAME) return this.#onExportName(data);
    if (!this.#fixedNewstyle) {
      return this.#close(`the client sent option ${option} without fixed newstyle`);
    }
    if (option === NBD_OPT.NBD_OPT_ABORT) {
      this.#acknowledge(option);
      return this.#close();
    }
    if (this.#shuttingDown) {
      return this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_SHUTDOWN, 'the server is shutting down');
    }
    if (option === NBD_OPT.NBD_OPT_STARTTLS) return this.#onStartTls(data);
    if (this.#tls === 'require' && !this.#secure) {
      return this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_TLS_REQD, 'this server requires TLS');
    }
    switch (option) {
      case NBD_OPT.NBD_OPT_LIST:
        return this.#onList(data);
      case NBD_OPT.NBD_OPT_INFO:
      case NBD_OPT.NBD_OPT_GO:
        return this.#onInfo(option, data);
      case NBD_OPT.NBD_OPT_STRUCTURED_REPLY:
        return this.#onStructuredReply(data);
      case NBD_OPT.NBD_OPT_LIST_META_CONTEXT:
      case NBD_OPT.NBD_OPT_SET_META_CONTEXT:
        return this.#onMetaContext(option, data);
      case NBD_OPT.NBD_OPT_EXTENDED_HEADERS:
        return this.#onExtendedHeaders(data);
      default:
        return this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_UNSUP, `option ${option} is unknown`);
    }
  }

  /** EXPORT_NAME cannot be refused with a reply: what it cannot have closes the connection. */
  #onExportName(data: Uint8Array): void {
    const name = decodeString(data);
    if (name === undefined) return this.#close('the client sent a malformed export name');
    if (this.#tls === 'require' && !this.#secure) {
      return this.#close('the client asked for an export without TLS');
    }
    if (this.#mode === ReplyMode.EXTENDED) {
      return this.#close('the client sent EXPORT_NAME after EXTENDED_HEADERS');
    }
    const info = this.#exports.find(name);
    if (info === undefined || this.#shuttingDown) return this.#close();
    const flags = transmissionFlags(info, this.#mode);
    this.#send(encodeExportNameReply(info.sizeBytes, flags, this.#zeroes));
    this.#transmit(info, name);
  }

  #onStartTls(data: Uint8Array): void {
    const option = NBD_OPT.NBD_OPT_STARTTLS;
    if (data.length > 0 || this.#secure) return this.#refuseInvalid(option);
    if (this.#tls === 'off') {
      return this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_UNSUP, 'this server has no TLS');
    }
    this.#acknowledge(option);
    this.#state = 'awaitTls';
    this.#actions.push({ kind: 'startTls' });
  }

  #onList(data: Uint8Array): void {
    const option = NBD_OPT.NBD_OPT_LIST;
    if (data.length > 0) return this.#refuseInvalid(option);
    for (const info of this.#exports.list()) {
      this.#reply(option, NBD_REP.NBD_REP_SERVER, encodeServerData(info.name, info.description));
    }
    this.#acknowledge(option);
  }

  #onInfo(option: number, data: Uint8Array): void {
    const request = decodeInfoRequest(data);
    if (request === undefined) return this.#refuseInvalid(option);
    const info = this.#exports.find(request.exportName);
    if (info === undefined) return this.#refuseUnknown(option);
    for (const payload of this.#infoPayloads(info, request)) {
      this.#reply(option, NBD_REP.NBD_REP_INFO, payload);
    }
    this.#acknowledge(option);
    if (option === NBD_OPT.NBD_OPT_GO) this.#transmit(info, request.exportName);
  }

  #infoPayloads(info: ExportInfo, request: InfoRequest): Uint8Array[] {
    const { infoTypes } = request;
    const payloads = [encodeInfoExport(info.sizeBytes, transmissionFlags(info, this.#mode))];
    if (infoTypes.includes(NBD_INFO.NBD_INFO_NAME)) {
      payloads.push(encodeInfoText(NBD_INFO.NBD_INFO_NAME, info.name));
    }
    if (infoTypes.includes(NBD_INFO.NBD_INFO_DESCRIPTION)) {
      payloads.push(encodeInfoText(NBD_INFO.NBD_INFO_DESCRIPTION, info.description));
    }
    if (infoTypes.includes(NBD_INFO.NBD_INFO_BLOCK_SIZE)) {
      const { minimum, preferred, maximumPayload } = NBD_BLOCK_SIZE_DEFAULT;
      payloads.push(encodeInfoBlockSize(minimum, preferred, maximumPayload));
    }
    return payloads;
  }

  #onStructuredReply(data: Uint8Array): void {
    const option = NBD_OPT.NBD_OPT_STRUCTURED_REPLY;
    if (data.length > 0) return this.#refuseInvalid(option);
    if (this.#mode === ReplyMode.EXTENDED) {
      const text = 'extended headers are in force';
      return this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_EXT_HEADER_REQD, text);
    }
    this.#mode = ReplyMode.STRUCTURED;
    this.#acknowledge(option);
  }

  #onExtendedHeaders(data: Uint8Array): void {
    const option = NBD_OPT.NBD_OPT_EXTENDED_HEADERS;
    if (data.length > 0) return this.#refuseInvalid(option);
    this.#mode = ReplyMode.EXTENDED;
    this.#acknowledge(option);
  }

  #onMetaContext(option: number, data: Uint8Array): void {
    const setting = option === NBD_OPT.NBD_OPT_SET_META_CONTEXT;
    // A SET replaces what was set before, even when it fails.
    if (setting) this.#contextExportName = undefined;
    const request = decodeMetaContextRequest(data);
    if (request === undefined || this.#mode === ReplyMode.SIMPLE) {
      return this.#refuseInvalid(option);
    }
    if (this.#exports.find(request.exportName) === undefined) return this.#refuseUnknown(option);
    const { queries } = request;
    const chosen = setting
      ? queries.includes(NBD_CONTEXT_BASE_ALLOCATION)
      : queries.length === 0 ||
        queries.includes(NBD_CONTEXT_BASE_ALLOCATION) ||
        queries.includes('base:');
    if (chosen) {
      // proto.md: the id in a LIST reply means nothing and should be 0.
      const id = setting ? NBD_ALLOCATION_CONTEXT_ID : 0;
      const payload = encodeMetaContext(id, NBD_CONTEXT_BASE_ALLOCATION);
      this.#reply(option, NBD_REP.NBD_REP_META_CONTEXT, payload);
      if (setting) this.#contextExportName = request.exportName;
    }
    this.#acknowledge(option);
  }

  #transmit(info: ExportInfo, nameAsked: string): void {
    this.#state = 'over';
    this.#actions.push({
      kind: 'transmit',
      exportName: info.name,
      mode: this.#mode,
      allocationContext: this.#contextExportName === nameAsked,
    });
  }

  #send(bytes: Uint8Array): void {
    this.#actions.push({ kind: 'send', bytes });
  }

  #reply(option: number, type: number, data: Uint8Array): void {
    this.#send(encodeOptionReply(option, type, data));
  }

  #acknowledge(option: number): void {
    this.#send(encodeOptionReply(option, NBD_REP.NBD_REP_ACK));
  }

  #refuse(option: number, type: number, text: string): void {
    this.#send(encodeOptionReply(option, type, encodeText(text)));
  }

  #refuseInvalid(option: number): void {
    this.#refuse(
      option,
      NBD_REP_ERR.NBD_REP_ERR_INVALID,
      `the data of option ${option} is invalid`,
    );
  }

  #refuseUnknown(option: number): void {
    this.#refuse(option, NBD_REP_ERR.NBD_REP_ERR_UNKNOWN, 'there is no export of that name');
  }

  #close(breach?: string): void {
    this.#state = 'over';
    this.#actions.push(breach === undefined ? { kind: 'close' } : { kind: 'close', breach });
  }
}
