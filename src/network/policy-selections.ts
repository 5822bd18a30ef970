/**
 * Which Pods a NetworkPolicy's selectors mean, kept while Pods, namespaces and policies change. Equal selectors of all
 * policies are one selection; a Pod that changes is held against each selection once, and only what it enters or leaves
 * gets another set of addresses, so that a plan that compares sets by identity finds what changed.
 *
 * Pods in the host's network are not among them: their traffic is their node's. So are Pods that have ended, whose
 * addresses may be others' by now.
 * Source: Kubernetes documentation, "Network Policies".
 */
import { createHash } from 'node:crypto';
import type * as core from '#api/core.v1.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import { isIpv4 } from '#base/ip.ts';
import { matchesLabels, selectorOf, type LabelRequirement } from '#base/selectors.ts';

type Labels = Readonly<Record<string, string>>;

/** What policies ask of a Pod. */
export interface PodFacts {
  key: string;
  namespace: string;
  labels: Labels;
  ip: string;
  /** It runs on this node. */
  local: boolean;
  /** `name/protocol` to numbers of its containers. */
  namedPorts: ReadonlyMap<string, readonly number[]>;
}

/** The Pods of one namespace, or of all whose labels match, that match in turn. */
export interface Selection {
  id: string;
  namespace: string | undefined;
  namespaces: readonly LabelRequirement[];
  pods: readonly LabelRequirement[];
}

export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 20);
}

/** `namespaceSelector` absent: Pods of `namespace`. */
export function selectionOf(
  namespace: string,
  podSelector: LabelSelector | undefined,
  namespaceSelector?: LabelSelector,
): Selection {
  const place = namespaceSelector === undefined ? namespace : undefined;
  return {
    id: shortHash(JSON.stringify([place, namespaceSelector, podSelector ?? {}])),
    namespace: place,
    namespaces: selectorOf(namespaceSelector) ?? [],
    pods: selectorOf(podSelector) ?? [],
  };
}

/** `ip`: what the node knows before the Pod's status says it. */
export function podFacts(pod: core.Pod, nodeName: string, ip = ipv4Of(pod)): PodFacts | undefined {
  const { spec, status, metadata } = pod;
  if (ip === undefined || spec.hostNetwork === true) return undefined;
  if (status?.phase === 'Succeeded' || status?.phase === 'Failed') return undefined;
  const namedPorts = new Map<string, number[]>();
  const sidecars = (spec.initContainers ?? []).filter((container) => container.restartPolicy === 'Always');
  for (const { ports } of [...spec.containers, ...sidecars])
    for (const { name, protocol, containerPort } of ports ?? []) {
      if (name === undefined) continue;
      const key = `${name}/${(protocol ?? 'TCP').toLowerCase()}`;
      namedPorts.set(key, [...(namedPorts.get(key) ?? []), containerPort]);
    }
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    namespace: metadata.namespace,
    labels: metadata.labels ?? {},
    ip,
    local: spec.nodeName === nodeName,
    namedPorts,
  };
}

function ipv4Of({ status }: core.Pod): string | undefined {
  return [status?.podIP, ...(status?.podIPs ?? []).map((entry) => entry.ip)].find(isIpv4);
}

interface Held {
  selection: Selection;
  uses: number;
  members: Map<string, PodFacts>;
  /** Undefined after a change, until somebody asks. */
  addresses: ReadonlySet<string> | undefined;
}

export class PodSelections {
  readonly #pods = new Map<string, PodFacts>();
  readonly #namespaces = new Map<string, Labels>();
  readonly #held = new Map<string, Held>();
  /** Elements `ip . protocol . number` by `name/protocol`, as far as they were asked for. */
  readonly #named = new Map<string, ReadonlySet<string>>();

  /** Resolves to whether that changed anything. */
  setPod(key: string, facts: PodFacts | undefined): boolean {
    const before = this.#pods.get(key);
    if (isSame(before, facts)) return false;
    if (facts === undefined) this.#pods.delete(key);
    else this.#pods.set(key, facts);
    for (const held of this.#held.values()) this.#place(held, key, facts);
    for (const name of [...(before?.namedPorts.keys() ?? []), ...(facts?.namedPorts.keys() ?? [])])
      this.#named.delete(name);
    return true;
  }

  setNamespace(name: string, labels: Labels | undefined): boolean {
    if (JSON.stringify(this.#namespaces.get(name)) === JSON.stringify(labels)) return false;
    if (labels === undefined) this.#namespaces.delete(name);
    else this.#namespaces.set(name, labels);
    for (const held of this.#held.values()) {
      if (held.selection.namespace !== undefined) continue;
      for (const facts of this.#pods.values()) if (facts.namespace === name) this.#place(held, facts.key, facts);
    }
    return true;
  }

  /** Keeps a selection until it is released as often. */
  hold(selection: Selection): void {
    const known = this.#held.get(selection.id);
    if (known !== undefined) {
      known.uses++;
      return;
    }
    const held: Held = { selection, uses: 1, members: new Map(), addresses: undefined };
    this.#held.set(selection.id, held);
    for (const facts of this.#pods.values()) this.#place(held, facts.key, facts);
  }

  release(selection: Selection): void {
    const held = this.#held.get(selection.id);
    if (held !== undefined && --held.uses === 0) this.#held.delete(selection.id);
  }

  members(selection: Selection): Iterable<PodFacts> {
    return this.#held.get(selection.id)?.members.values() ?? [];
  }

  /** The same set as long as it holds the same. */
  addresses(id: string): ReadonlySet<string> {
    const held = this.#held.get(id);
    if (held === undefined) return new Set();
    held.addresses ??= new Set([...held.members.values()].map((facts) => facts.ip));
    return held.addresses;
  }

  /** `ip . protocol . number` of all Pods that name a port so; `name/protocol`. The same set as long as it holds. */
  namedPorts(name: string): ReadonlySet<string> {
    let found = this.#named.get(name);
    if (found === undefined) {
      const protocol = name.slice(name.indexOf('/') + 1);
      const elements = [...this.#pods.values()].flatMap(({ ip, namedPorts }) =>
        (namedPorts.get(name) ?? []).map((number) => `${ip} . ${protocol} . ${number}`),
      );
      this.#named.set(name, (found = new Set(elements)));
    }
    return found;
  }

  #place(held: Held, key: string, facts: PodFacts | undefined): void {
    const before = held.members.get(key);
    const isMember = facts !== undefined && this.#matches(held.selection, facts);
    if (isMember) held.members.set(key, facts);
    else held.members.delete(key);
    if (before?.ip !== (isMember ? facts.ip : undefined)) held.addresses = undefined;
  }

  #matches({ namespace, namespaces, pods }: Selection, facts: PodFacts): boolean {
    if (namespace === undefined) {
      const labels = this.#namespaces.get(facts.namespace);
      if (labels === undefined || !matchesLabels(namespaces, labels)) return false;
    } else if (namespace !== facts.namespace) return false;
    return matchesLabels(pods, facts.labels);
  }
}

function isSame(a: PodFacts | undefined, b: PodFacts | undefined): boolean {
  const textOf = (facts: PodFacts | undefined): string =>
    facts === undefined ? '' : JSON.stringify({ ...facts, namedPorts: [...facts.namedPorts] });
  return textOf(a) === textOf(b);
}
