/**
 * A list at a revision equals the replay of a watch up to that revision, object for object, whenever one looks and
 * however one asks: at once or in pages, now or at an older revision; and a watch from any revision that is not
 * forgotten shows exactly what happened since, as its selectors see it. The store's own commits are the third witness.
 * Asked over a connection without faults: API server and store are judged, not the network.
 */
import { isReason } from '#base/errors.ts';
import { isOf, type KindRef, type KubeList, type KubeObject } from '#base/objects.ts';
import { matchesLabels, parseLabelSelector } from '#base/selectors.ts';
import type { Client, ListOptions, WatchOptions } from '#client/client.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isEqual } from '#controllers/equality.ts';
import type { Random } from '#os/clock.ts';
import { settle } from '#os/clock.sim.ts';
import { type Change, Replay } from '../replay.ts';
import type { Checker, World } from '../world.ts';

const watched = [
  kinds.Pod,
  kinds.ReplicaSet,
  kinds.Deployment,
  kinds.StatefulSet,
  kinds.Job,
  kinds.EndpointSlice,
  kinds.ConfigMap,
  kinds.Node,
  kinds.Lease,
  kinds.PersistentVolumeClaim,
  kinds.Namespace,
];
/** The share of ticks at which one random question is asked. */
const askShare = 0.35;
/** Changes of each kind that are kept to go back to. */
const changesMax = 1_500;
const pagePauseMsMax = 120;

/** What a list or a watch is narrowed to, and the same as a function. */
interface Narrowing {
  options: Pick<ListOptions & WatchOptions, 'namespace' | 'labelSelector' | 'fieldSelector'>;
  matches(object: KubeObject): boolean;
}

function narrowing(kind: KindRef, random: Random, sample: KubeObject | undefined): Narrowing {
  const by = Math.floor(random.float() * 5);
  const { namespace, name, labels } = sample?.metadata ?? {};
  if (by === 1 && kind.namespaced && namespace !== undefined)
    return { options: { namespace }, matches: ({ metadata }) => metadata.namespace === namespace };
  const [label] = Object.entries(labels ?? {});
  if (by === 2 && label !== undefined) {
    const labelSelector = random.float() < 0.5 ? `${label[0]}=${label[1]}` : `${label[0]}!=${label[1]}`;
    const selector = parseLabelSelector(labelSelector);
    return { options: { labelSelector }, matches: (object) => matchesLabels(selector, object.metadata.labels) };
  }
  const nodeOf = (object: KubeObject | undefined): string | undefined =>
    object !== undefined && isOf(kinds.Pod, object) ? object.spec.nodeName : undefined;
  const node = nodeOf(sample);
  if (by === 3 && node !== undefined)
    return { options: { fieldSelector: `spec.nodeName=${node}` }, matches: (object) => nodeOf(object) === node };
  if (by === 4 && name !== undefined)
    return {
      options: { fieldSelector: `metadata.name=${name}`, ...(namespace === undefined ? {} : { namespace }) },
      matches: ({ metadata }) => metadata.name === name && metadata.namespace === namespace,
    };
  return { options: {}, matches: () => true };
}

const versions = (list: readonly KubeObject[]): string =>
  list.map((object) => `${keyOf(object)}@${object.metadata.resourceVersion}`).join(' ') || 'nothing';

class Examiner {
  readonly #world: World;
  readonly #random: Random;
  readonly #client: Client;
  readonly #report: (message: string) => void;
  readonly #replays: Replay[];

  constructor(world: World, name: string) {
    this.#world = world;
    this.#random = world.cluster.random.split();
    this.#client = world.cluster.connect('checker').client;
    this.#report = (message) => world.report(name, message);
    this.#replays = watched.map((kind) => new Replay(kind, this.#client, world.cluster.clock, this.#report));
  }

  async start(): Promise<void> {
    for (const replay of this.#replays) await replay.start();
  }
  async stop(): Promise<void> {
    for (const replay of this.#replays) await replay.stop();
  }
  #below(count: number): number {
    return Math.floor(this.#random.float() * count);
  }

  /** Each kind, plainly. */
  async askAll(): Promise<void> {
    for (const replay of this.#replays)
      await this.#compare(replay, await this.#client.list(replay.kind), { options: {}, matches: () => true }, 'now');
  }

  async askOne(): Promise<void> {
    const replay = this.#replays[this.#below(this.#replays.length)];
    if (replay === undefined) return;
    const compacted = this.#world.cluster.store.compactedRevision();
    const forgotten = replay.changes.length > changesMax ? replay.changes.at(-changesMax) : undefined;
    if (forgotten !== undefined) replay.forget(forgotten.revision);
    const oldest = Math.max(replay.base, compacted);
    const current = this.#world.cluster.store.currentRevision();
    const past = oldest + this.#below(Math.max(1, current - oldest + 1));
    const present = [...replay.at(current).values()];
    const narrow = narrowing(replay.kind, this.#random, present[this.#below(present.length)]);
    switch (this.#below(6)) {
      case 0:
        return this.#compare(replay, await this.#client.list(replay.kind, narrow.options), narrow, 'now');
      case 1:
        return this.#askPages(replay, narrow, present.length);
      case 2:
        return this.#askExact(replay, narrow, past);
      case 3:
        return this.#askNotOlder(replay, narrow, past);
      case 4:
        return this.#askBeyond(replay, compacted, current);
      default:
        return this.#askWatch(replay, narrow, past);
    }
  }

  async #compare(replay: Replay, list: KubeList, { matches }: Narrowing, how: string): Promise<void> {
    // What is committed has reached the watch once all that can happen now has.
    await settle();
    const revision = Number(list.metadata.resourceVersion);
    const wanted = replay.at(revision);
    for (const item of list.items) {
      const key = keyOf(item);
      const seen = wanted.get(key);
      wanted.delete(key);
      if (seen === undefined || !matches(seen))
        this.#report(
          `${replay.kind.resource} ${key} is listed (${how}) at ${item.metadata.resourceVersion} in revision ${revision} and was ${seen === undefined ? 'not watched' : 'not to be listed'}`,
        );
      else if (
        seen.metadata.resourceVersion !== item.metadata.resourceVersion ||
        !isEqual({ ...seen, kind: '', apiVersion: '' }, { ...item, kind: '', apiVersion: '' })
      )
        this.#report(
          `${replay.kind.resource} ${key} is listed (${how}) at ${item.metadata.resourceVersion} in revision ${revision} and was watched at ${seen.metadata.resourceVersion}`,
        );
      if (revision === this.#world.revision) this.#compareStore(replay.kind, item);
    }
    for (const [key, seen] of wanted)
      if (matches(seen))
        this.#report(
          `${replay.kind.resource} ${key} was watched at ${seen.metadata.resourceVersion} and is not listed (${how}) in revision ${revision}`,
        );
  }

  #compareStore({ group, resource }: KindRef, item: KubeObject): void {
    const key = `/registry/${group === '' ? '' : `${group}/`}${resource}/${keyOf(item)}`;
    const { resourceVersion, ...metadata } = item.metadata;
    const held = this.#world.objects.get(key);
    if (
      held === undefined ||
      this.#world.revisions.get(key) !== Number(resourceVersion) ||
      !isEqual(
        { ...held, metadata: held.metadata },
        { ...item, kind: held.kind, apiVersion: held.apiVersion, metadata },
      )
    )
      this.#report(
        `${key} is listed at ${resourceVersion} and was committed ${held === undefined ? 'never' : `at ${this.#world.revisions.get(key)}`}`,
      );
  }

  /** The world goes on between the pages; all of them show one revision, and together each object once. */
  async #askPages(replay: Replay, narrow: Narrowing, count: number): Promise<void> {
    const limit = 1 + this.#below(Math.max(3, Math.ceil(count / 2)));
    let page = await this.#client.list(replay.kind, { ...narrow.options, limit });
    const whole: KubeList = { ...page, items: [...page.items] };
    const keys = new Set(page.items.map(keyOf));
    while (page.metadata.continue !== undefined && page.metadata.continue !== '') {
      await this.#world.cluster.clock.sleep(this.#below(pagePauseMsMax));
      try {
        page = await this.#client.list(replay.kind, { ...narrow.options, limit, continue: page.metadata.continue });
      } catch (error) {
        if (
          isReason(error, 'Expired') &&
          Number(whole.metadata.resourceVersion) < this.#world.cluster.store.compactedRevision()
        )
          return;
        throw error;
      }
      if (page.metadata.resourceVersion !== whole.metadata.resourceVersion)
        this.#report(
          `${replay.kind.resource}: a page has revision ${page.metadata.resourceVersion}, the first ${whole.metadata.resourceVersion}`,
        );
      if (page.items.length > limit)
        this.#report(`${replay.kind.resource}: a page of ${limit} holds ${page.items.length}`);
      for (const item of page.items) {
        if (keys.has(keyOf(item))) this.#report(`${replay.kind.resource} ${keyOf(item)} is on two pages`);
        keys.add(keyOf(item));
        whole.items.push(item);
      }
    }
    await this.#compare(replay, whole, narrow, `in pages of ${limit}`);
  }

  async #askExact(replay: Replay, narrow: Narrowing, revision: number): Promise<void> {
    const { namespace, ...selectors } = narrow.options;
    const list = await this.#client.list(replay.kind, {
      ...selectors,
      ...(namespace === undefined ? {} : { namespace }),
      resourceVersion: String(revision),
      resourceVersionMatch: 'Exact',
    });
    if (list.metadata.resourceVersion !== String(revision))
      this.#report(
        `${replay.kind.resource}: a list of exactly ${revision} has revision ${list.metadata.resourceVersion}`,
      );
    await this.#compare(replay, list, narrow, 'exactly');
  }

  async #askNotOlder(replay: Replay, narrow: Narrowing, revision: number): Promise<void> {
    const options =
      this.#random.float() < 0.3
        ? { resourceVersion: '0' }
        : { resourceVersion: String(revision), resourceVersionMatch: 'NotOlderThan' };
    const list = await this.#client.list(replay.kind, { ...narrow.options, ...options });
    if (options.resourceVersion !== '0' && Number(list.metadata.resourceVersion) < revision)
      this.#report(
        `${replay.kind.resource}: a list not older than ${revision} has revision ${list.metadata.resourceVersion}`,
      );
    if (Number(list.metadata.resourceVersion) >= replay.base) await this.#compare(replay, list, narrow, 'not older');
  }

  /** What has not happened and what is forgotten is refused. */
  async #askBeyond(replay: Replay, compacted: number, current: number): Promise<void> {
    const ask = async (revision: number, reason: 'Timeout' | 'Expired'): Promise<void> => {
      try {
        await this.#client.list(replay.kind, { resourceVersion: String(revision), resourceVersionMatch: 'Exact' });
        this.#report(
          `${replay.kind.resource}: a list of revision ${revision} was answered, ${compacted} is compacted and ${current} is current`,
        );
      } catch (error) {
        if (!isReason(error, reason)) throw error;
      }
    };
    await ask(current + 1_000_000, 'Timeout');
    if (compacted > 1) await ask(1 + this.#below(compacted - 1), 'Expired');
  }

  async #askWatch(replay: Replay, { options, matches }: Narrowing, from: number): Promise<void> {
    const stop = new AbortController();
    const seen: { type: string; object: KubeObject }[] = [];
    const { cluster } = this.#world;
    const until = cluster.store.currentRevision();
    let isBroken = false;
    const pump = (async () => {
      for await (const event of this.#client.watch(replay.kind, {
        ...options,
        resourceVersion: String(from),
        signal: stop.signal,
      }))
        seen.push(event);
      isBroken = !stop.signal.aborted;
    })().catch(() => {
      isBroken = true;
    });
    await cluster.clock.sleep(1);
    stop.abort();
    await pump;
    if (isBroken && seen.length === 0) return; // The API server went away.
    if (seen.some(({ type }) => type === 'ERROR')) {
      if (cluster.store.compactedRevision() <= from)
        this.#report(`${replay.kind.resource}: a watch from ${from} failed: ${JSON.stringify(seen.at(-1)?.object)}`);
      return;
    }
    const wanted = replay.changes
      .filter(({ revision }) => revision > from && revision <= until)
      .flatMap((change) => eventFor(change, matches));
    const text = (list: readonly { type: string; object: KubeObject }[]): string[] =>
      list
        .filter(({ object }) => Number(object.metadata.resourceVersion) <= until)
        .map(({ type, object }) => `${type} ${versions([object])}`);
    const [is, should] = [text(seen), text(wanted)];
    const at = should.findIndex((line, index) => line !== is[index]);
    if (at >= 0 || is.length !== should.length)
      this.#report(
        `${replay.kind.resource} watched from ${from} with ${JSON.stringify(options)}: event ${at < 0 ? should.length : at} is ${is[at < 0 ? should.length : at] ?? 'missing'}, not ${should[at] ?? 'the end'}`,
      );
  }
}

/** A change as a watch with a selector shows it: what begins to match is ADDED, what ceases to is DELETED. */
function eventFor(
  { type, object, previous }: Change,
  matches: (object: KubeObject) => boolean,
): { type: string; object: KubeObject }[] {
  const [before, after] = [previous !== undefined && matches(previous), type !== 'DELETED' && matches(object)];
  if (!before && !after) return [];
  return [{ type: before ? (after ? 'MODIFIED' : 'DELETED') : 'ADDED', object }];
}

export function listEqualsWatch(): Checker {
  const name = 'list-equals-watch';
  let examination: { examiner: Examiner; random: Random } | undefined;
  /** While the API server restarts nothing can be asked; what is forgotten meanwhile may be refused. */
  const ask = async ({ cluster: { store } }: World, run: () => Promise<void>): Promise<void> => {
    const compacted = store.compactedRevision();
    try {
      await run();
    } catch (error) {
      if (
        !isReason(error, 'ServiceUnavailable') &&
        !(isReason(error, 'Expired') && store.compactedRevision() > compacted)
      )
        throw error;
    }
  };
  return {
    name,
    async onTick(world) {
      if (examination === undefined) {
        examination = { examiner: new Examiner(world, name), random: world.cluster.random.split() };
        await examination.examiner.start();
      }
      const { examiner, random } = examination;
      if (random.float() < askShare) await ask(world, () => examiner.askOne());
    },
    async atRest(world) {
      if (examination === undefined) return;
      const { examiner } = examination;
      await ask(world, () => examiner.askAll());
      await examiner.stop();
      examination = undefined;
    },
  };
}
