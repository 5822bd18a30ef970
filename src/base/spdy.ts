/**
 * SPDY/3.1, the server's half, as far as Kubernetes' streaming uses it: streams opened by the client, headers, data,
 * half-close, ping. There is no flow control, as in the peers that speak this protocol; a stream's consumer pauses the
 * whole connection by not reading. Data is handed on as it comes, whatever a frame's length; only control frames are
 * gathered. Every buffer has a bound (limits.ts); a peer that goes beyond what it may make us hold is hung up on. Bytes
 * come in through `receive` and leave through `send`, so that it runs on a socket and inside WebSocket messages alike.
 * Source: draft-mbelshe-httpbis-spdy-00, sections 2.2 (framing), 2.6 (control frames).
 */
import { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';
import {
  spdyAnswersPendingMax,
  spdyControlBytesMax,
  spdyHeaderBytesMax,
  spdyQueuedBytesMax,
  spdyStreamBufferBytesMax,
  spdyStreamsMax,
} from './limits.ts';
import { spdyDictionary } from './spdy-dictionary.ts';

const frameSynStream = 1;
const frameSynReply = 2;
const frameRstStream = 3;
const frameSettings = 4;
const framePing = 6;
const frameGoAway = 7;
const frameHeaders = 8;
const frameWindowUpdate = 9;
const flagFin = 1;
const dataBytesMax = 32 * 1024;

export class SpdyStream extends Duplex {
  readonly id: number;
  /** Names in lower case. */
  readonly headers: Record<string, string>;
  /** The peer has said that this was all. */
  hasEnded = false;
  readonly #connection: SpdyConnection;

  constructor(connection: SpdyConnection, id: number, headers: Record<string, string>) {
    super({ allowHalfOpen: true, readableHighWaterMark: spdyStreamBufferBytesMax });
    this.#connection = connection;
    this.id = id;
    this.headers = headers;
    this.on('error', () => {});
  }

  override _read(): void {
    this.#connection.wants(this.id);
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    for (let at = 0; at < chunk.length; at += dataBytesMax)
      this.#connection.sendData(this.id, chunk.subarray(at, at + dataBytesMax), false);
    this.#connection.drained(done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#connection.sendData(this.id, Buffer.alloc(0), true);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#connection.forget(this.id, !this.writableFinished);
    done(error);
  }
}

export interface SpdyTransport {
  /** False: wait for `onDrain` before much more. */
  send(bytes: Buffer): boolean;
  onDrain(run: () => void): void;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Header blocks share one compression state for each direction, so they pass through here one after the other. */
class HeaderCodec {
  readonly #inflate: Inflate = createInflate({
    dictionary: Buffer.from(spdyDictionary, 'base64'),
    flush: constants.Z_SYNC_FLUSH,
    finishFlush: constants.Z_SYNC_FLUSH,
  });
  readonly #deflate: Deflate = createDeflate({ dictionary: Buffer.from(spdyDictionary, 'base64'), level: 6 });

  constructor(onError: (error: Error) => void) {
    this.#inflate.on('error', onError);
    this.#deflate.on('error', onError);
  }

  /**
   * Rejects when more than `bytesMax` come out: the stream is destroyed at the first piece too many, and nothing
   * further is worked on.
   */
  #pass(stream: Inflate | Deflate, bytes: Buffer, bytesMax: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const collect = (chunk: Buffer): void => {
        chunks.push(chunk);
        length += chunk.length;
        if (length <= bytesMax) return;
        stream.off('data', collect);
        stream.destroy();
        reject(new Error(`SPDY header block of more than ${bytesMax} bytes`));
      };
      stream.on('data', collect);
      stream.write(bytes);
      stream.flush(constants.Z_SYNC_FLUSH, () => {
        stream.off('data', collect);
        resolve(Buffer.concat(chunks));
      });
    });
  }

  async decode(bytes: Buffer): Promise<Record<string, string>> {
    const block = await this.#pass(this.#inflate, bytes, spdyHeaderBytesMax);
    const headers: Record<string, string> = Object.create(null);
    let at = 4;
    const text = (): string => {
      const length = block.readUInt32BE(at);
      at += 4 + length;
      if (at > block.length) throw new Error('SPDY header block is cut off');
      return block.toString('latin1', at - length, at);
    };
    for (let left = block.readUInt32BE(0); left > 0; left--) {
      const name = text().toLowerCase();
      headers[name] = text();
    }
    return headers;
  }

  encode(headers: Record<string, string>): Promise<Buffer> {
    const parts: Buffer[] = [];
    const number = (value: number): void => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(value);
      parts.push(bytes);
    };
    number(Object.keys(headers).length);
    for (const [name, value] of Object.entries(headers))
      for (const text of [name, value]) {
        number(text.length);
        parts.push(Buffer.from(text, 'latin1'));
      }
    return this.#pass(this.#deflate, Buffer.concat(parts), spdyHeaderBytesMax);
  }

  close(): void {
    this.#inflate.destroy();
    this.#deflate.destroy();
  }
}

/** A data frame that is not all here yet: its stream, and the bytes still to come. */
interface IncomingData {
  id: number;
  left: number;
  flags: number;
}

export class SpdyConnection {
  readonly #transport: SpdyTransport;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #codec: HeaderCodec;
  readonly #waiting: (() => void)[] = [];
  #buffer: Buffer = Buffer.alloc(0);
  #work: Promise<void> = Promise.resolve();
  #closed = false;
  #full = false;
  /** Of the data frame that is coming in: its stream, what is still to come, and whether it is the last one. */
  #incoming: IncomingData | undefined;
  /** Streams whose readers have enough. */
  readonly #sated = new Set<number>();
  #queuedBytes = 0;
  #answersPending = 0;
  #paused = false;
  #onClose: () => void = () => {};

  constructor(transport: SpdyTransport, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#onStream = onStream;
    this.#codec = new HeaderCodec(() => this.close());
    transport.onDrain(() => {
      this.#full = false;
      this.#answersPending = 0;
      for (const run of this.#waiting.splice(0)) run();
    });
  }

  set onClose(run: () => void) {
    this.#onClose = run;
  }

  /** Bytes from the peer, in order. */
  receive(bytes: Buffer): void {
    this.#queuedBytes += bytes.length;
    this.#steer();
    this.#work = this.#work
      .then(() => this.#parse(bytes))
      .catch(() => this.close())
      .finally(() => {
        this.#queuedBytes -= bytes.length;
        this.#steer();
      });
  }

  /** Reads on only while everybody has room. */
  #steer(): void {
    if (this.#closed) return;
    const pause = this.#sated.size > 0 || this.#queuedBytes > spdyQueuedBytesMax;
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#transport.pause();
    else this.#transport.resume();
  }

  async #parse(bytes: Buffer): Promise<void> {
    this.#buffer = this.#buffer.length === 0 ? bytes : Buffer.concat([this.#buffer, bytes]);
    while (!this.#closed) {
      if (this.#incoming !== undefined) {
        if (!this.#takeData(this.#incoming)) return;
        continue;
      }
      if (this.#buffer.length < 8) return;
      const head = this.#buffer.subarray(0, 8);
      const length = head.readUIntBE(5, 3);
      if ((head.readUInt8(0) & 0x80) === 0) {
        this.#incoming = { id: head.readUInt32BE(0) & 0x7fffffff, left: length, flags: head.readUInt8(4) };
        this.#buffer = this.#buffer.subarray(8);
        continue;
      }
      if (length > spdyControlBytesMax) throw new Error('SPDY control frame too large');
      if (this.#buffer.length < 8 + length) return;
      const body = this.#buffer.subarray(8, 8 + length);
      this.#buffer = this.#buffer.subarray(8 + length);
      await this.#control(head.readUInt16BE(2), head.readUInt8(4), body);
    }
  }

  /** Hands on what has come of a data frame; false when more of it must come. */
  #takeData(incoming: IncomingData): boolean {
    const part = this.#buffer.subarray(0, incoming.left);
    if (part.length === 0 && incoming.left > 0) return false;
    this.#buffer = this.#buffer.subarray(part.length);
    incoming.left -= part.length;
    const stream = this.#streams.get(incoming.id);
    const isOpen = stream !== undefined && !stream.destroyed && !stream.hasEnded;
    if (isOpen && part.length > 0 && !stream.push(Buffer.from(part))) {
      this.#sated.add(incoming.id);
      this.#steer();
    }
    if (incoming.left > 0) return false;
    this.#incoming = undefined;
    if (isOpen && (incoming.flags & flagFin) !== 0) {
      stream.hasEnded = true;
      stream.push(null);
    }
    return true;
  }

  async #control(type: number, flags: number, body: Buffer): Promise<void> {
    switch (type) {
      case frameSynStream: {
        const id = body.readUInt32BE(0) & 0x7fffffff;
        const headers = await this.#codec.decode(body.subarray(10));
        if (this.#streams.size >= spdyStreamsMax || this.#streams.has(id)) {
          this.#sendControl(frameRstStream, 0, [id, 3]);
          return;
        }
        const stream = new SpdyStream(this, id, headers);
        this.#streams.set(id, stream);
        if ((flags & flagFin) !== 0) {
          stream.hasEnded = true;
          stream.push(null);
        }
        const block = await this.#codec.encode({});
        const reply = Buffer.alloc(4);
        reply.writeUInt32BE(id);
        this.#frame(frameSynReply, 0, Buffer.concat([reply, block]));
        this.#onStream(stream);
        return;
      }
      case frameHeaders:
        await this.#codec.decode(body.subarray(4));
        return;
      case frameRstStream:
        this.#streams.get(body.readUInt32BE(0) & 0x7fffffff)?.destroy();
        return;
      case framePing:
        this.#frame(framePing, 0, body.subarray(0, 4));
        return;
      case frameGoAway:
        return;
      case frameSettings:
      case frameWindowUpdate:
      case frameSynReply:
        return;
      default:
        return;
    }
  }

  /** The reader of a stream takes more. */
  wants(id: number): void {
    this.#sated.delete(id);
    this.#steer();
  }

  sendData(id: number, bytes: Buffer, fin: boolean): void {
    if (this.#closed) return;
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id, 0);
    head[4] = fin ? flagFin : 0;
    head.writeUIntBE(bytes.length, 5, 3);
    if (!this.#transport.send(bytes.length === 0 ? head : Buffer.concat([head, bytes]))) this.#full = true;
  }

  drained(run: () => void): void {
    if (this.#full && !this.#closed) this.#waiting.push(run);
    else run();
  }

  #sendControl(type: number, flags: number, words: number[]): void {
    const body = Buffer.alloc(words.length * 4);
    words.forEach((word, index) => body.writeUInt32BE(word, index * 4));
    this.#frame(type, flags, body);
  }

  #frame(type: number, flags: number, body: Buffer): void {
    if (this.#closed) return;
    const head = Buffer.alloc(8);
    head.writeUInt16BE(0x8003, 0);
    head.writeUInt16BE(type, 2);
    head[4] = flags;
    head.writeUIntBE(body.length, 5, 3);
    // A peer that makes us answer and does not listen is hung up on.
    if (this.#full && ++this.#answersPending > spdyAnswersPendingMax) {
      queueMicrotask(() => this.close());
      return;
    }
    if (!this.#transport.send(Buffer.concat([head, body]))) this.#full = true;
  }

  forget(id: number, reset: boolean): void {
    if (!this.#streams.delete(id)) return;
    this.wants(id);
    if (reset) this.#sendControl(frameRstStream, 0, [id, 5]);
  }

  close(): void {
    if (this.#closed) return;
    if (!this.#full) this.#sendControl(frameGoAway, 0, [0, 0]);
    this.#closed = true;
    for (const stream of this.#streams.values()) stream.destroy();
    for (const run of this.#waiting.splice(0)) run();
    this.#codec.close();
    this.#transport.close();
    this.#onClose();
  }
}
