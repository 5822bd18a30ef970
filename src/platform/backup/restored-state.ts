/**
 * What becomes of the state of a backup when it begins anew elsewhere. Pure: values in, values out.
 *
 * - Every key gets a revision of its own, in the order of the old ones, above all that the cluster can have handed out
 *   after the backup: versions only grow, no version is given twice, and who comes back with an old one is told 410.
 * - Nodes of other machines are not there: out of service and not ready, and whatever certificates nodes had until now
 *   are refused (`base/node-identity.ts`), so that no machine of before goes on as if nothing had happened.
 * - Pods on them are to be scheduled again, and those that belong to their node are gone. What has ended stays.
 * - Local volumes lie on this machine, in its directory.
 * - Leases of servers and of the leader are nobody's.
 */
import { basename, dirname, join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { removedNodes } from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { fieldOf, isObject, itemsOf, textOf, textsOf, type JsonObject } from '#base/unknown.ts';
import { serverLeasePrefix } from '#apiserver/server-leases.ts';
import type { StoreState } from '#store/state.ts';
import type { StoredValue } from '#store/store.ts';
import { restoredRevisionsPerSecond, restoredRevisionsStep, revisionMax } from '../limits.ts';

export interface RestoredPlace {
  /** Milliseconds since 1970: now, and when the backup was made. */
  nowMs: number;
  createdMs: number;
  /** For an object that was not there. */
  uid: string;
  /** This machine's nodes, the first first. */
  nodes: readonly { name: string; podRange: string }[];
  /** Where local volumes lay, and lie. */
  volumeDirectory: { before: string; now: string };
}

export interface RestoredState {
  state: StoreState;
  /** Nodes that are not there any more. */
  gone: string[];
  /** Pods that are to be scheduled again. */
  podsMoved: number;
}

const nodePrefix = '/registry/nodes/';
const podPrefix = '/registry/pods/';
const volumePrefix = '/registry/persistentvolumes/';
const claimPrefix = '/registry/persistentvolumeclaims/';
const leaderLease = '/registry/coordination.k8s.io/leases/kube-system/tiphys-control-plane';
const removedKey = `/registry/configmaps/${removedNodes.namespace}/${removedNodes.name}`;
/** Of what has an end (Events), and no longer says when. */
const leaseMs = 3_600_000;

const parse = (value: Uint8Array): JsonObject => {
  const found: unknown = JSON.parse(Buffer.from(value).toString());
  return isObject(found) ? found : {};
};
const encode = (object: JsonObject): Buffer => Buffer.from(JSON.stringify(object));
const objectOf = (value: unknown): JsonObject => (isObject(value) ? value : {});

/** Ranges of this machine's nodes stand at the head of the Pod range, as those of the machine of before did. */
function withoutRangeHere(spec: JsonObject, nodes: RestoredPlace['nodes']): JsonObject {
  if (!nodes.some(({ podRange }) => podRange === spec['podCIDR'])) return spec;
  const { podCIDR: _range, podCIDRs: _ranges, ...rest } = spec;
  return rest;
}

/** A node that is not there: nobody's Pods stay on it, and it is not ready until somebody says so. */
function withoutMachine(node: JsonObject, { nowMs, nodes }: Pick<RestoredPlace, 'nowMs' | 'nodes'>): JsonObject {
  const at = timestamp(nowMs);
  const spec = withoutRangeHere(objectOf(node['spec']), nodes);
  const status = objectOf(node['status']);
  const taint = { key: 'node.kubernetes.io/out-of-service', value: 'restored', effect: 'NoExecute', timeAdded: at };
  const others = itemsOf(spec['taints']).filter((each) => textOf(each, 'key') !== taint.key);
  const conditions = itemsOf(status['conditions']).map((condition) =>
    textOf(condition, 'type') === 'Ready'
      ? {
          ...objectOf(condition),
          status: 'Unknown',
          reason: 'Restored',
          message: 'The cluster was restored from a backup on another machine.',
          lastTransitionTime: at,
        }
      : condition,
  );
  return { ...node, spec: { ...spec, taints: [...others, taint] }, status: { ...status, conditions } };
}

type PodFate = 'stays' | 'moves' | 'goes';

function fateOf(pod: JsonObject, nodes: ReadonlySet<string>): PodFate {
  const node = textOf(pod, 'spec', 'nodeName') ?? '';
  if (node === '' || nodes.has(node)) return 'stays';
  if (['Succeeded', 'Failed'].includes(textOf(pod, 'status', 'phase') ?? '')) return 'stays';
  const owners = itemsOf(fieldOf(pod, 'metadata', 'ownerReferences'));
  const isOfItsNode = owners.some((owner) => ['DaemonSet', 'Node'].includes(textOf(owner, 'kind') ?? ''));
  return isOfItsNode || textOf(pod, 'metadata', 'deletionTimestamp') !== undefined ? 'goes' : 'moves';
}

/** As it was before it had a node. */
function unscheduled(pod: JsonObject): JsonObject {
  const { nodeName: _node, ...spec } = objectOf(pod['spec']);
  const status = objectOf(pod['status']);
  const kept = Object.fromEntries(
    ['qosClass', 'resourceClaimStatuses'].flatMap((field) =>
      status[field] === undefined ? [] : [[field, status[field]]],
    ),
  );
  return { ...pod, spec, status: { phase: 'Pending', ...kept } };
}

/** Requirements of nodes' names that none of this machine's nodes meets are of the first one's name. */
function renamed(terms: unknown, nodes: readonly string[]): unknown {
  const [first] = nodes;
  return itemsOf(terms).map((term) => {
    if (!['kubernetes.io/hostname', 'metadata.name'].includes(textOf(term, 'key') ?? '')) return term;
    const values = textsOf(fieldOf(term, 'values'));
    return values.some((name) => nodes.includes(name)) ? term : { ...objectOf(term), values: [first] };
  });
}

/** A volume of the platform's lies on this machine, and is reached here. */
function volumeHere(volume: JsonObject, { volumeDirectory, ...place }: RestoredPlace): JsonObject | undefined {
  const nodes = place.nodes.map(({ name }) => name);
  const spec = objectOf(volume['spec']);
  const kind = ['local', 'hostPath'].find((each) => textOf(spec, each, 'path') !== undefined);
  const path = kind === undefined ? undefined : textOf(spec, kind, 'path');
  if (kind === undefined || path === undefined || dirname(path) !== volumeDirectory.before) return undefined;
  const required = objectOf(fieldOf(spec, 'nodeAffinity', 'required'));
  const terms = itemsOf(required['nodeSelectorTerms']).map((term) => ({
    ...objectOf(term),
    ...Object.fromEntries(
      ['matchExpressions', 'matchFields'].flatMap((field) =>
        fieldOf(term, field) === undefined ? [] : [[field, renamed(fieldOf(term, field), nodes)]],
      ),
    ),
  }));
  return {
    ...volume,
    spec: {
      ...spec,
      [kind]: { ...objectOf(spec[kind]), path: join(volumeDirectory.now, basename(path)) },
      ...(terms.length === 0 ? {} : { nodeAffinity: { required: { ...required, nodeSelectorTerms: terms } } }),
    },
  };
}

/** A claim that waits for a volume on a node that is gone waits for any. */
function claimHere(claim: JsonObject, nodes: ReadonlySet<string>): JsonObject | undefined {
  const selected = 'volume.kubernetes.io/selected-node';
  const metadata = objectOf(claim['metadata']);
  const { [selected]: node, ...annotations } = objectOf(metadata['annotations']);
  const isBound = textOf(claim, 'spec', 'volumeName') !== undefined;
  if (isBound || typeof node !== 'string' || nodes.has(node)) return undefined;
  return { ...claim, metadata: { ...metadata, annotations } };
}

/** Certificates of every node of before are refused. */
function refused(
  before: StoredValue | undefined,
  names: readonly string[],
  { nowMs, uid }: Pick<RestoredPlace, 'nowMs' | 'uid'>,
): Buffer {
  const at = timestamp(nowMs);
  const config = before === undefined ? undefined : parse(before.value);
  const metadata = objectOf(config?.['metadata']);
  return encode({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { ...removedNodes, uid, creationTimestamp: at, ...metadata },
    data: { ...objectOf(config?.['data']), ...Object.fromEntries(names.map((name) => [name, at])) },
  });
}

/** Above all that were handed out since. Throws Conflict where numbers end. */
function firstRevision(revision: number, sinceMs: number): number {
  const first = revision + restoredRevisionsStep + Math.ceil(Math.max(0, sinceMs) / 1000) * restoredRevisionsPerSecond;
  if (first > revisionMax)
    throw new ApiError('Conflict', `resource versions would reach ${first}; they end at ${revisionMax}`);
  return first;
}

export class StateRestoring {
  readonly #place: RestoredPlace;
  readonly #nodes: ReadonlySet<string>;
  readonly #kept: StoredValue[] = [];
  readonly #gone: string[] = [];
  readonly #before: string[] = [];
  #podsMoved = 0;
  #removed: StoredValue | undefined;

  constructor(place: RestoredPlace) {
    this.#place = place;
    this.#nodes = new Set(place.nodes.map(({ name }) => name));
  }

  add(stored: StoredValue): void {
    const { key } = stored;
    if (key === removedKey) {
      this.#removed = stored;
      return;
    }
    const value = this.#valueOf(stored);
    if (value !== undefined) this.#kept.push({ ...stored, value });
  }

  /** Undefined: it is not kept. */
  #valueOf({ key, value }: StoredValue): Uint8Array | undefined {
    if (key.startsWith(serverLeasePrefix) || key === leaderLease) return undefined;
    if (key.startsWith(nodePrefix)) return this.#node(key.slice(nodePrefix.length), value);
    if (key.startsWith(podPrefix)) return this.#pod(value);
    const changed = key.startsWith(volumePrefix)
      ? volumeHere(parse(value), this.#place)
      : key.startsWith(claimPrefix)
        ? claimHere(parse(value), this.#nodes)
        : undefined;
    return changed === undefined ? value : encode(changed);
  }

  #node(name: string, value: Uint8Array): Uint8Array {
    this.#before.push(name);
    const here = this.#place.nodes.find((node) => node.name === name);
    if (here !== undefined) {
      const node = parse(value);
      return encode({
        ...node,
        spec: { ...objectOf(node['spec']), podCIDR: here.podRange, podCIDRs: [here.podRange] },
      });
    }
    this.#gone.push(name);
    return encode(withoutMachine(parse(value), this.#place));
  }

  #pod(value: Uint8Array): Uint8Array | undefined {
    const pod = parse(value);
    const fate = fateOf(pod, this.#nodes);
    if (fate === 'stays') return value;
    if (fate === 'goes') return undefined;
    this.#podsMoved++;
    return encode(unscheduled(pod));
  }

  /** `revision`: of the backup. */
  finish(revision: number): RestoredState {
    const { nowMs, createdMs } = this.#place;
    const marker: StoredValue = {
      key: removedKey,
      value: refused(this.#removed, this.#before, this.#place),
      createRevision: revision,
      modRevision: revision + 1,
    };
    const first = firstRevision(revision, nowMs - createdMs);
    const ordered = [...this.#kept, marker].sort((a, b) => a.modRevision - b.modRevision || (a.key < b.key ? -1 : 1));
    const leases = new Map<number, number>();
    const values = ordered.map((stored, index) => {
      if (stored.lease !== undefined) leases.set(stored.lease, leaseMs);
      return { ...stored, modRevision: first + index };
    });
    return {
      state: { values, revision: first + values.length, leases },
      gone: this.#gone,
      podsMoved: this.#podsMoved,
    };
  }
}
