/**
 * Sets a cluster up for rehearsing: nodes, what the manifests take for granted, the manifests; then lets it come to
 * rest.
 */
import { kinds } from '#base/kinds.ts';
import { type Cluster, createCluster } from '../cluster.ts';
import type { NamedObject } from '../manifests.ts';
import { Applier } from './apply.ts';
import { isRolledOut, serverKinds } from './servers.ts';
import { zoneLabel } from './strike.ts';
import { networkClass, surround, unknownClasses } from './surroundings.ts';
import { type Fault, type Manifest, type NamedNode, RehearsalError, type RehearseOptions } from './types.ts';

const restMsMax = 15 * 60_000;
/** Where so long nothing is written, all has become what it can: what is not whole by then will not be. */
const quietMs = 60_000;
/** Until a node that is down from the beginning is known to be lost. */
const lostMs = 60_000;
const zoneLetters = 'abc';

/** So many nodes, spread over three zones. */
export function nodesOf(nodes: RehearseOptions['nodes']): NamedNode[] {
  const list =
    typeof nodes === 'number'
      ? Array.from({ length: nodes }, (_unused, index) => ({ zone: `zone-${zoneLetters[index % zoneLetters.length]}` }))
      : nodes;
  return list.map((node, index) => ({ name: `node-${index}`, ...node }));
}

/** Faults that name what is not there. */
function checkFaults(faults: readonly Fault[], nodes: readonly NamedNode[]): void {
  const names = nodes.map(({ name }) => name);
  const known = [...new Set(nodes.flatMap(({ zone, labels }) => zone ?? labels?.[zoneLabel] ?? []))].sort();
  for (const { kind, target } of faults) {
    if (kind === 'kill-zone' && known.length === 0)
      throw new RehearsalError(`--kill-zone: no node has the label ${zoneLabel}`);
    const [what, choice] = kind === 'kill-zone' ? ['zone', known] : ['node', names];
    if (target !== undefined && !choice.includes(target))
      throw new RehearsalError(
        `--${kind}: there is no ${what} ${target} (there are ${choice.slice(0, 20).join(', ')}${choice.length > 20 ? ' …' : ''})`,
      );
  }
}

/**
 * What the manifests take for granted: Namespaces, and storage classes that a cloud brings. Notes say what was added.
 */
function takenForGranted(manifests: readonly Manifest[]): { objects: NamedObject[]; notes: string[] } {
  const objects = manifests.map(({ object }) => object);
  const present = new Set([
    'default',
    'kube-system',
    'kube-public',
    'kube-node-lease',
    ...objects.filter(({ kind }) => kind === 'Namespace').map(({ metadata }) => metadata.name),
  ]);
  const namespaces = [...new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? []))].filter(
    (name) => !present.has(name),
  );
  const classes = unknownClasses(objects);
  return {
    objects: [
      ...namespaces.map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
      ...classes.map(networkClass),
    ],
    notes: [
      ...namespaces.map((name) => `Namespace ${name} is not in the manifests: it was made`),
      ...classes.map(
        (name) => `StorageClass ${name} is not in the manifests: taken as network storage that any node can attach`,
      ),
    ],
  };
}

/**
 * A cluster at rest, to be forked. `seed` decides where Pods are placed first. Throws `RehearsalError` for what is
 * refused.
 */
export async function setUp(options: RehearseOptions, seed: number): Promise<{ cluster: Cluster; notes: string[] }> {
  const nodes = nodesOf(options.nodes);
  checkFaults(options.faults, nodes);
  const cluster = await createCluster({
    nodes,
    seed,
    events: false,
    ...(options.start === undefined ? {} : { start: options.start }),
  });
  try {
    await using _life = await surround(cluster);
    await prepareNodes(cluster, nodes);
    const { objects, notes } = takenForGranted([
      ...options.manifests,
      ...(options.changes ?? []).flatMap(({ manifests }) => manifests),
    ]);
    if (options.manifests.some(({ object }) => object.kind === 'StorageClass'))
      await replaceDefaultClass(cluster, options.manifests);
    const applier = new Applier(cluster.client, () => cluster.settle());
    await applier.apply([...objects.map((object) => ({ object, origin: 'added' })), ...options.manifests]);
    await comeToRest(cluster);
    return { cluster, notes };
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

async function prepareNodes(cluster: Cluster, nodes: readonly NamedNode[]): Promise<void> {
  for (const { name, unschedulable } of nodes)
    if (unschedulable === true)
      await cluster.client.patch(kinds.Node, { name }, { merge: { spec: { unschedulable: true } } });
  const down = nodes.filter(({ isDown }) => isDown === true);
  for (const { name } of down) cluster.nodes.kill(name);
  if (down.length > 0) await cluster.advance(lostMs);
}

/** The own class gives way to one of that name, and is not the default beside another. */
async function replaceDefaultClass(cluster: Cluster, manifests: readonly Manifest[]): Promise<void> {
  const annotation = 'storageclass.kubernetes.io/is-default-class';
  const classes = manifests.map(({ object }) => object).filter(({ kind }) => kind === 'StorageClass');
  await cluster.runUntil(async () => (await cluster.client.list(kinds.StorageClass)).items.length > 0, {
    timeout: '1m',
  });
  if (classes.some(({ metadata }) => metadata.name === 'local-path'))
    await cluster.client.delete(kinds.StorageClass, 'local-path');
  else if (classes.some(({ metadata }) => metadata.annotations?.[annotation] === 'true'))
    await cluster.client.patch(
      kinds.StorageClass,
      { name: 'local-path' },
      { merge: { metadata: { annotations: { [annotation]: 'false' } } } },
    );
}

/**
 * Until all is whole or nothing happens any more. Some manifests never rest (a container that ends again and again):
 * then long enough.
 */
async function comeToRest(cluster: Cluster): Promise<void> {
  let last = { version: '', atMs: cluster.now };
  const isAtRest = async (): Promise<boolean> => {
    const { resourceVersion: version = '' } = (await cluster.client.list(kinds.Pod, { limit: 1 })).metadata;
    if (version !== last.version) last = { version, atMs: cluster.now };
    return cluster.now - last.atMs >= quietMs || (await isWhole(cluster));
  };
  // What does not come to rest is judged as it is.
  await cluster.runUntil(isAtRest, { timeout: restMsMax, every: '5s' }).catch(() => {});
}

async function isWhole(cluster: Cluster): Promise<boolean> {
  for (const kind of serverKinds) if (!(await cluster.client.list(kind)).items.every(isRolledOut)) return false;
  return (await cluster.client.list(kinds.Pod)).items.every(
    ({ spec, status }) => spec.nodeName !== undefined && status?.phase !== 'Pending',
  );
}
