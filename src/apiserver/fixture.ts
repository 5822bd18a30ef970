/** An API server for tests: memory store, a clock that stands still, chance from a seed. */
import type { TestJson } from '#base/testing.ts';
import { silentLogger } from '#observe/log.ts';
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import { textOf } from '#base/unknown.ts';
import type { Random } from '#os/clock.ts';
import { createFakeClock } from '#store/fake-clock.ts';
import type { FakeClock } from '#store/fake-clock.ts';
import { createMemoryStore } from '#store/memory.ts';
import type { ApiServerOptions } from './context.ts';
import { createKeyRing } from './keys.ts';
import { createApiServer } from './server.ts';
import type { ApiServer } from './server.ts';

export function seededRandom(seed = 1): Random {
  let state = seed;
  const next = (): number => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
  const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => Math.floor(next() * 256));
  return {
    float: next,
    bytes,
    uuid: () => {
      const h = Buffer.from(bytes(16)).toString('hex');
      return `${h.slice(0, 8)}-${h.slice(8, 12)}-4${h.slice(13, 16)}-a${h.slice(17, 20)}-${h.slice(20)}`;
    },
  };
}

const admin: UserInfo = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: TestJson;
  text: string;
}

export interface TestApi extends AsyncDisposable {
  api: ApiServer;
  clock: FakeClock;
  call(
    method: string,
    path: string,
    body?: unknown,
    options?: { headers?: Record<string, string>; user?: UserInfo | null },
  ): Promise<Answer>;
  /** Creates through the path of the object's kind; throws what is refused. */
  make(path: string, object: TestJson): Promise<TestJson>;
  /** As the administrator, unless another user or nobody is named. */
  raw(
    method: string,
    path: string,
    extra?: Omit<Partial<ApiRequest>, 'user'> & { user?: UserInfo | null },
  ): Promise<ApiResponse>;
}

async function drain(body: ApiResponse['body']): Promise<string> {
  if (body === undefined) return '';
  if (body instanceof Uint8Array) return Buffer.from(body).toString();
  let out = '';
  for await (const chunk of body) out += Buffer.from(chunk).toString();
  return out;
}

export async function createTestApi(options: Partial<ApiServerOptions> = {}): Promise<TestApi> {
  const clock = createFakeClock();
  const random = seededRandom();
  const store = createMemoryStore(clock);
  const api = await createApiServer({
    store,
    clock,
    random,
    log: silentLogger,
    keys: createKeyRing(random, clock),
    ...options,
  });
  const raw: TestApi['raw'] = (method, path, { user = admin, ...extra } = {}) => {
    const cut = path.indexOf('?');
    return api.handle({
      method,
      path: cut < 0 ? path : path.slice(0, cut),
      query: new URLSearchParams(cut < 0 ? '' : path.slice(cut + 1)),
      headers: {},
      ...(user === null ? {} : { user }),
      signal: new AbortController().signal,
      ...extra,
    });
  };
  const call: TestApi['call'] = async (method, path, body, { headers = {}, user = admin } = {}) => {
    const bytes = body === undefined ? undefined : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const answer = await raw(method, path, {
      headers: { ...(bytes === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(bytes === undefined ? {} : { body: bytes }),
      user,
    });
    const text = await drain(answer.body);
    let parsed: TestJson;
    try {
      parsed = JSON.parse(text);
    } catch {
      parsed = undefined;
    }
    return { status: answer.status, headers: answer.headers, body: parsed, text };
  };
  const make: TestApi['make'] = async (path, object) => {
    const answer = await call('POST', path, object);
    if (answer.status >= 300) throw new Error(textOf(answer.body, 'message') ?? answer.text);
    return answer.body;
  };
  const test: TestApi = {
    api,
    clock,
    call,
    make,
    raw,
    async [Symbol.asyncDispose]() {
      await api[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
  await make('/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'default' } });
  return test;
}

export const podBody = (name: string, extra: { metadata?: object; spec?: object } = {}): TestJson => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, labels: { app: name }, ...extra.metadata },
  spec: { containers: [{ name: 'c', image: 'busybox:1' }], ...extra.spec },
});
export const pods = '/api/v1/namespaces/default/pods';
