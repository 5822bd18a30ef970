/**
 * The transport inside one process: each request goes into the API server's chain as a call, already authenticated as
 * `user`; objects come back shared and frozen, watches as the events themselves. Nothing is encoded on the way.
 */
import type { ApiHandler, ApiResponse, UserInfo } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import type { WatchEvent } from '#base/objects.ts';
import { errorOfStatus, plainStatus, type Transport, type TransportRequest } from './transport.ts';

const noQuery = new URLSearchParams();
const decoder = new TextDecoder();

async function objectOf(response: ApiResponse): Promise<object> {
  if (response.object !== undefined) return response.object;
  if (response.body === undefined) return plainStatus('Success');
  let text = '';
  if (response.body instanceof Uint8Array) text = decoder.decode(response.body);
  else for await (const chunk of response.body) text += decoder.decode(chunk, { stream: true });
  try {
    return JSON.parse(text);
  } catch {
    return plainStatus(response.status < 400 ? 'Success' : 'Failure', text);
  }
}

/** Events of a watch that came as bytes: one JSON value a line. */
async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<WatchEvent[]> {
  let rest = '';
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    const events = lines.filter((line) => line !== '').map((line): WatchEvent => JSON.parse(line));
    if (events.length > 0) yield events;
  }
}

/** A watch whose `next` is the API server's own: a generator in between would cost several turns. */
class DirectWatch implements AsyncIterable<WatchEvent[]>, AsyncIterator<WatchEvent[]> {
  readonly #open: () => Promise<AsyncIterator<WatchEvent[]> | undefined>;
  readonly #stop = new AbortController();
  readonly #signals: AbortSignal[];
  readonly #onAbort = (): void => {
    void this.return();
  };
  #inner: AsyncIterator<WatchEvent[]> | undefined;
  #opening: Promise<AsyncIterator<WatchEvent[]> | undefined> | undefined;

  constructor(
    call: (request: TransportRequest) => Promise<ApiResponse>,
    request: TransportRequest,
    closed: AbortSignal,
  ) {
    this.#signals = request.signal === undefined ? [closed] : [closed, request.signal];
    for (const signal of this.#signals) {
      if (signal.aborted) this.#stop.abort();
      else signal.addEventListener('abort', this.#onAbort, { once: true });
    }
    this.#open = async () => {
      const response = await call({ ...request, signal: this.#stop.signal });
      if (response.status >= 400) throw errorOfStatus(response.status, await objectOf(response));
      if (response.events !== undefined) return response.events[Symbol.asyncIterator]();
      return response.body === undefined || response.body instanceof Uint8Array ? undefined : eventsOf(response.body);
    };
  }

  async #first(): Promise<IteratorResult<WatchEvent[]>> {
    if (this.#stop.signal.aborted) return { value: undefined, done: true };
    this.#opening ??= this.#open();
    try {
      this.#inner = await this.#opening;
    } catch (error) {
      this.#release();
      throw error;
    }
    if (this.#inner === undefined || this.#stop.signal.aborted) {
      await this.return();
      return { value: undefined, done: true };
    }
    return this.#inner.next();
  }

  next(): Promise<IteratorResult<WatchEvent[]>> {
    return this.#inner === undefined ? this.#first() : this.#inner.next();
  }

  #release(): void {
    for (const signal of this.#signals) signal.removeEventListener('abort', this.#onAbort);
    this.#stop.abort();
  }

  async return(): Promise<IteratorResult<WatchEvent[]>> {
    this.#release();
    await this.#inner?.return?.();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** `handler` is the API server's; `user` is who the requests are made as. */
export function createDirectTransport(handler: ApiHandler, user: UserInfo, userAgent = 'tiphys'): Transport {
  const closed = new AbortController();
  const call = async (request: TransportRequest): Promise<ApiResponse> => {
    if (closed.signal.aborted) throw new ApiError('ServiceUnavailable', 'the client is closed');
    const headers: Record<string, string | undefined> = {
      'user-agent': userAgent,
      accept: 'application/json',
      ...request.headers,
    };
    if (request.body !== undefined) headers['content-type'] = request.contentType ?? 'application/json';
    return handler({
      method: request.method,
      path: request.path,
      query: request.query ?? noQuery,
      headers,
      user,
      wantsObject: true,
      signal: request.signal ?? closed.signal,
      ...(request.body === undefined ? {} : { object: request.body }),
    });
  };
  return {
    async send(request) {
      const response = await call(request);
      const object = await objectOf(response);
      if (response.status >= 400) throw errorOfStatus(response.status, object);
      return object;
    },
    watch: (request) => new DirectWatch(call, request, closed.signal),
    async [Symbol.asyncDispose]() {
      closed.abort();
    },
  };
}
