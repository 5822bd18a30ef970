/**
 * What the Pods of each node use: Secrets, ConfigMaps, claims, ServiceAccounts; and the Secrets that Ingresses name.
 * Kept along with the Pods, so that a kubelet's question costs a look into a map (Kubernetes, "Using Node
 * Authorization").
 */
import type { Pod } from '#api/core.v1.ts';
import type { Ingress } from '#api/networking.v1.ts';
import type { LiveKind } from '../live-kind.ts';

/** How often each `resource/namespace/name` is referred to. */
type References = Map<string, number>;

interface PodReferences {
  node: string;
  references: readonly string[];
}

const noReferences: References = new Map();

export class NodeGraph {
  readonly #pods: LiveKind<Pod>;
  readonly #ingresses: LiveKind<Ingress>;
  readonly #ofPod = new Map<string, PodReferences>();
  readonly #ofNode = new Map<string, References>();
  readonly #ofIngress = new Map<string, readonly string[]>();
  readonly #ofIngresses: References = new Map();

  constructor(pods: LiveKind<Pod>, ingresses: LiveKind<Ingress>) {
    this.#pods = pods.subscribe((namespace, name, pod) => this.#setPod(`${namespace}/${name}`, pod));
    this.#ingresses = ingresses.subscribe((namespace, name, ingress) => this.#setIngress(namespace, name, ingress));
  }

  /** Whether a Pod that is bound to the node refers to the object. */
  async nodeUses(node: string, resource: string, namespace: string, name: string): Promise<boolean> {
    await this.#pods.current();
    return (this.#ofNode.get(node) ?? noReferences).has(reference(resource, namespace, name));
  }

  /** Whether an Ingress names the Secret as a certificate. */
  async ingressUses(namespace: string, secret: string): Promise<boolean> {
    await this.#ingresses.current();
    return this.#ofIngresses.has(reference('secrets', namespace, secret));
  }

  #setIngress(namespace: string, name: string, ingress: Ingress | undefined): void {
    const key = `${namespace}/${name}`;
    count(this.#ofIngresses, this.#ofIngress.get(key) ?? [], -1);
    this.#ofIngress.delete(key);
    const references = secretsOfIngress(ingress).map((secret) => reference('secrets', namespace, secret));
    if (references.length === 0) return;
    this.#ofIngress.set(key, references);
    count(this.#ofIngresses, references, 1);
  }

  #setPod(key: string, pod: Pod | undefined): void {
    const before = this.#ofPod.get(key);
    const node = pod?.spec.nodeName ?? '';
    const references = pod === undefined || node === '' ? [] : referencesOf(pod);
    if (before !== undefined) {
      const ofNode = this.#ofNode.get(before.node) ?? noReferences;
      count(ofNode, before.references, -1);
      if (ofNode.size === 0) this.#ofNode.delete(before.node);
      this.#ofPod.delete(key);
    }
    if (references.length === 0) return;
    this.#ofPod.set(key, { node, references });
    const ofNode = this.#ofNode.get(node) ?? new Map<string, number>();
    this.#ofNode.set(node, ofNode);
    count(ofNode, references, 1);
  }
}

const reference = (resource: string, namespace: string, name: string): string => `${resource}/${namespace}/${name}`;

function count(references: References, keys: readonly string[], by: 1 | -1): void {
  for (const key of keys) {
    const now = (references.get(key) ?? 0) + by;
    if (now > 0) references.set(key, now);
    else references.delete(key);
  }
}

function secretsOfIngress(ingress: Ingress | undefined): string[] {
  return (ingress?.spec?.tls ?? []).flatMap((tls) => (tls.secretName ? [tls.secretName] : []));
}

function referencesOf(pod: Pod): string[] {
  const { spec } = pod;
  const { namespace } = pod.metadata;
  const out = new Set<string>();
  const add = (resource: string, name: string | undefined): void => {
    if (name !== undefined && name !== '') out.add(reference(resource, namespace, name));
  };
  add('serviceaccounts', spec.serviceAccountName);
  for (const pull of spec.imagePullSecrets ?? []) add('secrets', pull.name);
  for (const volume of spec.volumes ?? []) {
    add('secrets', volume.secret?.secretName);
    add('secrets', volume.csi?.nodePublishSecretRef?.name);
    add('configmaps', volume.configMap?.name);
    add('persistentvolumeclaims', volume.persistentVolumeClaim?.claimName);
    if (volume.ephemeral) add('persistentvolumeclaims', `${pod.metadata.name}-${volume.name}`);
    for (const source of volume.projected?.sources ?? []) {
      add('secrets', source.secret?.name);
      add('configmaps', source.configMap?.name);
    }
  }
  const containers = [...spec.containers, ...(spec.initContainers ?? []), ...(spec.ephemeralContainers ?? [])];
  for (const container of containers) {
    for (const from of container.envFrom ?? []) {
      add('secrets', from.secretRef?.name);
      add('configmaps', from.configMapRef?.name);
    }
    for (const env of container.env ?? []) {
      add('secrets', env.valueFrom?.secretKeyRef?.name);
      add('configmaps', env.valueFrom?.configMapKeyRef?.name);
    }
  }
  return [...out];
}
