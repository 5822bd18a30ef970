/**
 * Load on a cluster, for as long as a file is not there: 200 requests a second to an application, a writer, and 20
 * watchers of what it writes. Run by Node as a program of its own; what came of it is printed as JSON at the end.
 *
 *   node steady-load.ts URL KUBECONFIG NAMESPACE STOP_FILE
 */
import { existsSync } from 'node:fs';
import { get } from 'node:http';
import { Agent, request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { codeOf, messageOf } from '#base/thrown.ts';
import { textOf } from '#base/unknown.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';

export const steadyLoad: string = fileURLToPath(import.meta.url);

export interface Came {
  count: number;
  failed: number;
  /** From the beginning of the first one that failed to the end of one that did not. */
  longestOutageMs: number;
  /** Of those that did not fail. */
  slowestMs: number;
  /** How often which one. */
  errors: Record<string, number>;
}

export interface SteadyLoad {
  requests: Came;
  writes: Came;
  /** Each beginning of a watch. */
  watches: Came;
  /** Of each watcher: what was acknowledged and not seen. */
  unseen: number[];
}

const requestsPerSecond = 200;
const watchers = 20;
const timeoutMs = 10_000;
/** Requests under way: at 200 a second more than a few mean that answers wait. */
const pendingMax = 100;
/** What watchers have after the end to see what they have not seen. */
const catchUpMs = 30_000;

class Tally implements Came {
  count = 0;
  failed = 0;
  longestOutageMs = 0;
  slowestMs = 0;
  readonly errors: Record<string, number> = {};
  #failingSince: number | undefined;

  async of<T>(run: () => Promise<T>): Promise<T | undefined> {
    const begun = performance.now();
    this.count++;
    try {
      const result = await run();
      const ended = performance.now();
      this.slowestMs = Math.max(this.slowestMs, Math.round(ended - begun));
      if (this.#failingSince !== undefined)
        this.longestOutageMs = Math.max(this.longestOutageMs, Math.round(ended - this.#failingSince));
      this.#failingSince = undefined;
      return result;
    } catch (error) {
      const word = codeOf(error) ?? messageOf(error);
      this.errors[word] = (this.errors[word] ?? 0) + 1;
      this.failed++;
      this.#failingSince = Math.min(this.#failingSince ?? begun, begun);
      return undefined;
    }
  }

  get plain(): Came {
    const { count, failed, longestOutageMs, slowestMs, errors } = this;
    return { count, failed, longestOutageMs, slowestMs, errors };
  }
}

interface Target {
  /** Of the application. */
  url: string;
  /** Of the ConfigMaps of a namespace. */
  api: string;
  tls: { ca?: string | undefined; cert?: string | undefined; key?: string | undefined };
  stopFile: string;
}

class Load {
  readonly #target: Target;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #requests = new Tally();
  readonly #writes = new Tally();
  readonly #watches = new Tally();
  readonly #acknowledged: string[] = [];
  readonly #seen = Array.from({ length: watchers }, () => new Set<string>());
  readonly #end = Promise.withResolvers<void>();
  /** When watchers have had time enough. */
  #endMs = Infinity;

  constructor(target: Target) {
    this.#target = target;
  }

  async run(): Promise<SteadyLoad> {
    const list: unknown = JSON.parse(await this.#send('?limit=1'));
    const version = textOf(list, 'metadata', 'resourceVersion') ?? '';
    const watching = this.#seen.map((names) => this.#watch(names, version));
    process.stdout.write('begun\n');
    await Promise.all([this.#ask(), this.#write()]);
    this.#endMs = performance.now() + catchUpMs;
    while (this.#isWatched()) await sleep(100);
    this.#end.resolve();
    await Promise.all(watching);
    return {
      requests: this.#requests.plain,
      writes: this.#writes.plain,
      watches: this.#watches.plain,
      unseen: this.#seen.map((names) => this.#acknowledged.filter((name) => !names.has(name)).length),
    };
  }

  get #isOver(): boolean {
    return existsSync(this.#target.stopFile);
  }

  async #ask(): Promise<void> {
    const pending = new Set<Promise<unknown>>();
    const begun = performance.now();
    for (let sent = 0; !this.#isOver; await sleep(5)) {
      for (; sent < ((performance.now() - begun) / 1000) * requestsPerSecond; sent++) {
        // What this program is late with, on a machine that is busy with other things, is no load of the application's.
        if (pending.size >= pendingMax) continue;
        const one = this.#requests.of(() => fetchOnce(this.#target.url)).finally(() => pending.delete(one));
        pending.add(one);
      }
    }
    await Promise.all(pending);
  }

  #send(path: string, body?: object): Promise<string> {
    const { api, tls } = this.#target;
    return new Promise((resolve, reject) => {
      const method = body === undefined ? 'GET' : 'POST';
      const headers = { 'content-type': 'application/json' };
      const options = { ...tls, agent: this.#agent, method, headers, timeout: timeoutMs };
      const asked = request(`${api}${path}`, options, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        answer.once('error', reject).once('end', () => {
          // One that was written, and whose answer was lost, is there already.
          if ([200, 201, 409].includes(answer.statusCode ?? 0)) resolve(text);
          else reject(new Error(text));
        });
      });
      asked.once('error', reject).once('timeout', () => asked.destroy(new Error('timeout')));
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async #write(): Promise<void> {
    for (let n = 1; !this.#isOver; await sleep(50)) {
      const name = `load-${n}`;
      const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } };
      if ((await this.#writes.of(() => this.#send('', body))) === undefined) continue;
      this.#acknowledged.push(name);
      n++;
    }
  }

  #isWatched(): boolean {
    const isSeen = (names: Set<string>): boolean => this.#acknowledged.every((name) => names.has(name));
    return !this.#isOver || (performance.now() < this.#endMs && !this.#seen.every(isSeen));
  }

  async #watch(names: Set<string>, version: string): Promise<void> {
    const state = { names, version };
    while (this.#isWatched()) {
      const { promise: ended, resolve } = Promise.withResolvers<void>();
      await this.#watches.of(() => this.#beginWatch(state, resolve));
      await Promise.race([ended, this.#end.promise]);
      await sleep(20);
    }
  }

  #beginWatch(state: { names: Set<string>; version: string }, ended: () => void): Promise<void> {
    const { api, tls } = this.#target;
    return new Promise((resolve, reject) => {
      const query = `?watch=1&allowWatchBookmarks=true&resourceVersion=${state.version}&timeoutSeconds=600`;
      const asked = request(`${api}${query}`, { ...tls, agent: false }, (answer) => {
        if (answer.statusCode === 200) resolve();
        else asked.destroy(new Error('status'));
        let text = '';
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          const lines = (text + chunk).split('\n');
          text = lines.pop() ?? '';
          for (const line of lines) {
            const event: unknown = JSON.parse(line);
            if (textOf(event, 'type') === 'ERROR') throw new Error(line);
            state.version = textOf(event, 'object', 'metadata', 'resourceVersion') ?? state.version;
            state.names.add(textOf(event, 'object', 'metadata', 'name') ?? '');
          }
        });
        answer.once('error', ended).once('close', ended);
      });
      asked.once('error', reject).once('close', ended);
      asked.end();
    });
  }
}

function fetchOnce(url: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const asked = get(url, { agent: false, timeout: timeoutMs }, (answer) => {
      answer.resume().once('error', reject);
      answer.once('end', () => (answer.statusCode === 200 ? resolve(true) : reject(new Error('status'))));
    });
    asked.once('error', reject).once('timeout', () => asked.destroy(new Error('timeout')));
  });
}

if (process.argv[1] === steadyLoad) {
  const [url = '', kubeconfig = '', namespace = '', stopFile = ''] = process.argv.slice(2);
  const { server, ca, certificate: cert, key } = loadKubeconfig(kubeconfig);
  const api = `${server}/api/v1/namespaces/${namespace}/configmaps`;
  const came = await new Load({ url, api, tls: { ca, cert, key }, stopFile }).run();
  process.stdout.write(`${JSON.stringify(came)}\n`);
  process.exit(0);
}
