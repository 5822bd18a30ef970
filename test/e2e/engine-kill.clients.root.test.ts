/**
 * `tiphys engine` is killed while clients of its API change everything it keeps: containers, their names, limits and
 * files, images that are built, committed, loaded and removed, volumes. What was answered is there afterwards; what was
 * asked for and not answered is there whole, or not at all; and when all is removed, nothing is left on the disk.
 * TIPHYS_KILL_ROUNDS says how often it is killed.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import { realClock } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { testSeed } from '#os/test-seed.ts';
import { importBusybox, makeDaemon } from './daemon.ts';

const rounds = Number(process.env['TIPHYS_KILL_ROUNDS'] ?? 4);
const seed = testSeed();
const workers = 4;

interface Answer {
  status: number;
  body: Buffer;
}

/** Rejects when the engine went away before the whole answer was there. */
function call(home: string, method: string, path: string, sent?: Buffer | object): Promise<Answer> {
  const isTar = Buffer.isBuffer(sent);
  const headers = sent === undefined ? {} : { 'Content-Type': isTar ? 'application/x-tar' : 'application/json' };
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: `${home}/run/docker.sock`, method, path, headers }, (answer) => {
      const parts: Buffer[] = [];
      answer.on('data', (part: Buffer) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts) }));
    });
    asked.on('error', reject);
    asked.end(isTar ? sent : sent === undefined ? undefined : JSON.stringify(sent));
  });
}

const tar = (files: Record<string, string>): Buffer =>
  Buffer.concat([...Object.entries(files).map(([path, text]) => encodeTarFile({ path }, text)), tarEnd]);
const versionIn = (text: Buffer): string => /<v\d+>/.exec(text.toString('latin1'))?.[0] ?? 'none';

/** What something may be: one value once it was answered, more while a change of it was not. */
class Possible {
  values: Set<string>;
  constructor(value: string) {
    this.values = new Set([value]);
  }
  /** What it is, where that is known. */
  get only(): string {
    assert.equal(this.values.size, 1);
    return [...this.values][0] ?? '';
  }
  /** The change may come true at any time until it is answered. */
  async change(values: string[], run: () => Promise<void>): Promise<void> {
    for (const value of values) this.values.add(value);
    await run();
    this.values = new Set(values.slice(-1));
  }
  check(seen: string, what: string): void {
    assert.ok(this.values.has(seen), `${what} is ${seen}, and not ${[...this.values].join(' or ')}`);
    this.values = new Set([seen]);
  }
}

/** One client with a container, an image and a volume of its own. */
class Worker {
  readonly #home: string;
  readonly #random: SimRandom;
  readonly #id: number;
  /** The container's name, or 'none'. */
  readonly #name = new Possible('none');
  readonly #state = new Possible('none');
  readonly #memory = new Possible('0');
  readonly #file = new Possible('none');
  readonly #image = new Possible('none');
  readonly #volume = new Possible('none');
  #version = 0;
  readonly done: Record<string, number>;

  constructor(home: string, id: number, done: Record<string, number>) {
    this.#home = home;
    this.#id = id;
    this.#random = new SimRandom(seed + id);
    this.done = done;
  }

  async #call(method: string, path: string, sent?: Buffer | object): Promise<Answer> {
    const answer = await call(this.#home, method, path, sent);
    assert.ok(answer.status < 400, `${method} ${path}: ${answer.status} ${answer.body.toString()}`);
    return answer;
  }

  #next(): string {
    return `<v${this.#id}${String(++this.#version).padStart(6, '0')}>`;
  }

  /** Steps at random until the engine is gone. */
  async live(): Promise<void> {
    for (;;) {
      const steps = this.#steps();
      const [name, step] = steps[Math.floor(this.#random.float() * steps.length)]!;
      await step();
      this.done[name] = (this.done[name] ?? 0) + 1;
    }
  }

  #steps(): [string, () => Promise<void>][] {
    return [
      ...(this.#name.only === 'none' ? [['create', () => this.#create()] as const] : this.#stepsOfContainer()),
      ...(this.#image.only === 'none' ? [] : this.#stepsOfImage()),
      ['build', () => this.#build()],
      ['volume', () => this.#makeOrRemoveVolume()],
    ].map(([name, step]) => [name as string, step as () => Promise<void>]);
  }

  #stepsOfContainer(): [string, () => Promise<void>][] {
    const path = `/containers/${this.#name.only}`;
    const state = this.#state.only;
    const to = (verb: string, ...states: string[]): [string, () => Promise<void>] => [
      verb,
      () => this.#state.change(states, async () => void (await this.#call('POST', `${path}/${verb}`))),
    ];
    const isUp = state === 'running';
    return [
      ...(isUp ? [to('pause', 'paused'), to('kill', 'exited'), to('restart?t=0', 'exited', 'running')] : []),
      ...(state === 'paused' ? [to('unpause', 'running')] : []),
      ...(state === 'created' || state === 'exited' ? [to('start', 'running')] : []),
      ['rename', () => this.#rename(path)],
      ['update', () => this.#update(path)],
      ['copy', () => this.#copy(path)],
      ['commit', () => this.#commit()],
      ['export', async () => void (await this.#call('GET', `${path}/export`))],
      ['remove', () => this.#remove(path)],
    ];
  }

  #stepsOfImage(): [string, () => Promise<void>][] {
    return [
      [
        'rmi',
        () => this.#image.change(['none'], async () => void (await this.#call('DELETE', `/images/i${this.#id}`))),
      ],
      ['save and load', () => this.#saveAndLoad()],
    ];
  }

  async #create(): Promise<void> {
    const name = `c${this.#id}`;
    const body = { Image: 'busybox', Cmd: ['sh', '-c', 'while :; do sleep 1; done'], HostConfig: { Init: true } };
    this.#state.values.add('created');
    await this.#name.change(
      [name],
      async () => void (await this.#call('POST', `/containers/create?name=${name}`, body)),
    );
    this.#state.values = new Set(['created']);
  }

  async #rename(path: string): Promise<void> {
    const name = `c${this.#id}-${this.#next().slice(2, -1)}`;
    await this.#name.change([name], async () => void (await this.#call('POST', `${path}/rename?name=${name}`)));
  }

  async #update(path: string): Promise<void> {
    const Memory = (64 + Math.floor(this.#random.float() * 64)) << 20;
    const body = { Memory, MemorySwap: Memory };
    await this.#memory.change([String(Memory)], async () => void (await this.#call('POST', `${path}/update`, body)));
  }

  async #copy(path: string): Promise<void> {
    const version = this.#next();
    // It is written as the archive comes: what was there may be gone before the new one is there.
    await this.#file.change(
      ['none', version],
      async () => void (await this.#call('PUT', `${path}/archive?path=/`, tar({ f: version }))),
    );
  }

  async #commit(): Promise<void> {
    const path = `/commit?container=${this.#name.only}&repo=i${this.#id}`;
    await this.#image.change(
      [this.#file.only === 'none' ? 'empty' : this.#file.only],
      async () => void (await this.#call('POST', path)),
    );
  }

  async #remove(path: string): Promise<void> {
    for (const part of [this.#state, this.#file]) part.values.add('none');
    // A paused one goes on, so that it can be killed.
    for (const state of ['running', 'exited']) this.#state.values.add(state);
    this.#memory.values.add('0');
    await this.#name.change(['none'], async () => void (await this.#call('DELETE', `${path}?force=1`)));
    for (const part of [this.#state, this.#file]) part.values = new Set(['none']);
    this.#memory.values = new Set(['0']);
  }

  async #build(): Promise<void> {
    const version = this.#next();
    const context = tar({ f: version, Dockerfile: 'FROM busybox\nCOPY f /f\nRUN cat /f > /g\n' });
    await this.#image.change([version], async () => {
      const { body } = await this.#call('POST', `/build?t=i${this.#id}`, context);
      assert.doesNotMatch(body.toString(), /"error"/);
    });
  }

  async #saveAndLoad(): Promise<void> {
    const { body } = await this.#call('GET', `/images/i${this.#id}/get`);
    const had = this.#image.only;
    await this.#image.change(['none'], async () => void (await this.#call('DELETE', `/images/i${this.#id}`)));
    await this.#image.change([had], async () => void (await this.#call('POST', '/images/load', body)));
  }

  async #makeOrRemoveVolume(): Promise<void> {
    const Name = `v${this.#id}`;
    if (this.#volume.only === 'none')
      await this.#volume.change(['there'], async () => void (await this.#call('POST', '/volumes/create', { Name })));
    else await this.#volume.change(['none'], async () => void (await this.#call('DELETE', `/volumes/${Name}`)));
  }

  /** What the engine that came after says of each thing. */
  async check(): Promise<void> {
    await this.#checkContainer();
    await this.#checkImage();
    const volume = await call(this.#home, 'GET', `/volumes/v${this.#id}`);
    this.#volume.check(volume.status === 200 ? 'there' : 'none', `volume v${this.#id}`);
  }

  async #checkContainer(): Promise<void> {
    const { body } = await this.#call('GET', '/containers/json?all=1');
    const listed = (JSON.parse(body.toString()) as { Names: string[] }[]).flatMap(({ Names }) => Names);
    const names = listed.map((name) => name.slice(1)).filter((name) => new RegExp(`^c${this.#id}(-|$)`).test(name));
    assert.ok(names.length <= 1, names.join());
    const name = names[0] ?? 'none';
    this.#name.check(name, `the name of ${this.#id}'s container`);
    const seen = name === 'none' ? undefined : await this.#inspect(name);
    const what = `of ${name}`;
    this.#state.check(seen?.State.Status ?? 'none', `the state ${what}`);
    this.#memory.check(String(seen?.HostConfig.Memory ?? 0), `the memory ${what}`);
    this.#file.check(name === 'none' ? 'none' : await this.#fileOf(name), `the file ${what}`);
  }

  async #inspect(name: string): Promise<{ State: { Status: string }; HostConfig: { Memory: number } }> {
    return JSON.parse((await this.#call('GET', `/containers/${name}/json`)).body.toString());
  }

  async #fileOf(container: string): Promise<string> {
    const { status, body } = await call(this.#home, 'GET', `/containers/${container}/archive?path=/f`);
    assert.ok(status === 200 || status === 404, body.toString());
    return status === 404 ? 'none' : versionIn(body);
  }

  /** An image that is there can be used, and has what was put into it. */
  async #checkImage(): Promise<void> {
    const body = { Image: `i${this.#id}`, Cmd: ['true'] };
    const made = await call(this.#home, 'POST', `/containers/create?name=look${this.#id}`, body);
    if (made.status === 404) {
      this.#image.check('none', `image ${this.#id}`);
      return;
    }
    assert.equal(made.status, 201, made.body.toString());
    const file = await this.#fileOf(`look${this.#id}`);
    this.#image.check(file === 'none' ? 'empty' : file, `the file of image ${this.#id}`);
    await this.#call('DELETE', `/containers/look${this.#id}`);
  }

  async end(): Promise<void> {
    if (this.#name.only !== 'none') await this.#remove(`/containers/${this.#name.only}`);
    if (this.#image.only !== 'none') await this.#call('DELETE', `/images/i${this.#id}`);
    if (this.#volume.only !== 'none') await this.#makeOrRemoveVolume();
  }
}

/** Resolves when so many more steps are done: a busy machine does fewer, and is given the time for it. */
async function untilDone(done: Record<string, number>, more: number): Promise<void> {
  const count = (): number => Object.values(done).reduce((sum, some) => sum + some, 0);
  const first = count();
  while (count() < first + more) await realClock.sleep(5);
}

/** Every path below the directory, but for what is written as time goes by. */
function tree(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length))
    .filter((path) => !/\.log|^\/run\/.*(pid|seccomp\/)|^\/image\//.test(path))
    .sort();
}

test(`all that was answered outlives kill -9, and what was not is whole or not there (${rounds} rounds)`, async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start();
  await importBusybox(daemon);
  // Its layer is packed once, and kept so.
  await call(daemon.home, 'GET', '/images/busybox/get');
  const before = tree(daemon.home);
  const random = new SimRandom(seed);
  const done: Record<string, number> = {};
  const all = Array.from({ length: workers }, (_, id) => new Worker(daemon.home, id, done));
  for (let round = 0; round < rounds; round++) {
    const isGone = (error: NodeJS.ErrnoException): void => {
      if (!/ECONNRESET|ECONNREFUSED|EPIPE|aborted|socket hang up/.test(`${error.code} ${error.message}`)) throw error;
    };
    const living = all.map((worker) => worker.live().catch(isGone));
    // One whose expectation is not met ends the wait.
    await Promise.race([Promise.all(living), untilDone(done, 1 + random.float() * 16)]);
    await realClock.sleep(random.float() * 200);
    await daemon.end('SIGKILL');
    await Promise.all(living);
    await daemon.start();
    for (const worker of all) await worker.check();
  }
  for (const worker of all) await worker.end();
  for (const path of ['/images/prune', '/build/prune?all=1']) await call(daemon.home, 'POST', path);
  // What is young may be in use; after a start nothing is.
  await daemon.end('SIGKILL');
  await daemon.start();
  t.diagnostic(JSON.stringify(done));
  const left = (): string[] => tree(daemon.home).filter((path) => !before.includes(path));
  for (let tries = 0; tries < 200 && left().length > 0; tries++) await realClock.sleep(50);
  assert.deepEqual(left(), []);
});
