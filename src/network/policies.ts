/**
 * Keeps the kernel's rules for NetworkPolicies true: watches policies, Pods and namespaces, plans, and applies the
 * difference. Pods and namespaces are followed from the first policy on; a cluster without policies pays for none.
 *
 * At start the whole table is made anew in one transaction, once everything is known: what a dead process left holds
 * until then. A Pod that a policy isolates is isolated before its first container starts: the kubelet asks for it with
 * the address that the Pod's status does not say yet.
 */
import type { Namespace, Pod } from '#api/core.v1.ts';
import type { NetworkPolicy } from '#api/networking.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject } from '#base/objects.ts';
import { whenSettled } from '#base/promises.ts';
import { keyOf, type Informer, type InformerFactory } from '#client/informer.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Nft } from '#os/nft.ts';
import { rulesDelayMs, rulesRetryMs } from './limits.ts';
import {
  compilePolicy,
  diffPolicies,
  emptyPolicyRules,
  planPolicies,
  policyTable,
  type CompiledPolicy,
  type PolicyRules,
} from './policy-rules.ts';
import { podFacts, PodSelections, type Selection } from './policy-selections.ts';

export interface PolicyEnforcerOptions {
  informers: InformerFactory;
  nft: Nft;
  clock: Clock;
  log: Logger;
  nodeName: string;
  /** nftables table of this node's policies. */
  table: string;
}

export interface PolicyEnforcer extends AsyncDisposable {
  /** Resolves when the rules reflect the first list. */
  ready: Promise<void>;
  /**
   * Resolves when the policies that select the Pod hold for its address. Waits as long as policies are not known, or
   * the kernel refuses them.
   */
  isolate(pod: Pod, podIp: string): Promise<void>;
}

export function runPolicyEnforcer(options: PolicyEnforcerOptions): PolicyEnforcer {
  return new Enforcer(options);
}

class Enforcer implements PolicyEnforcer {
  readonly ready: Promise<void>;
  readonly #options: PolicyEnforcerOptions;
  readonly #policies: Informer<NetworkPolicy>;
  /** Once there is a policy. */
  #pods: Informer<Pod> | undefined;
  readonly #compiled = new Map<string, CompiledPolicy>();
  readonly #selections = new PodSelections();
  /** Pods of this node whose address the kubelet has told, until their status says it. */
  readonly #told = new Map<string, { pod: Pod; ip: string }>();
  #applied: PolicyRules = emptyPolicyRules();
  #hasTable = false;
  #isKnown = false;
  #isDirty = true;
  #closed = false;
  #timer: Timer | undefined;
  #work: Promise<void> = Promise.resolve();
  /** Those who wait for a transaction that holds all that is known now. */
  #waiting: (() => void)[] = [];

  constructor(options: PolicyEnforcerOptions) {
    this.#options = options;
    this.#policies = options.informers.informer(kinds.NetworkPolicy);
    this.ready = this.#begin();
    this.ready.catch((error: unknown) => options.log.error('network policies could not start', { error }));
  }

  async isolate(pod: Pod, podIp: string): Promise<void> {
    await this.ready;
    if (this.#pods === undefined || pod.spec.hostNetwork === true) return;
    const key = keyOf(pod);
    this.#told.set(key, { pod, ip: podIp });
    this.#refreshPod(key);
    await this.#whenApplied();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await whenSettled(this.#work);
  }

  async #begin(): Promise<void> {
    await this.#policies.synced;
    follow(this.#policies, (key) => this.#refreshPolicy(key));
    if (this.#policies.size > 0) await this.#followPods();
    this.#isKnown = true;
    await this.#whenApplied();
  }

  /** Rules wait until Pods and namespaces are known: without them they would let nothing through. */
  async #followPods(): Promise<void> {
    const { informers } = this.#options;
    const pods = informers.informer(kinds.Pod);
    const namespaces = informers.informer(kinds.Namespace);
    this.#isKnown = false;
    this.#pods = pods;
    await Promise.all([pods.synced, namespaces.synced]);
    follow(namespaces, (key) => this.#refreshNamespace(namespaces.get(key), key));
    follow(pods, (key) => this.#refreshPod(key));
    pods.addHandler({
      deleted: (pod) => {
        const key = keyOf(pod);
        if (this.#told.get(key)?.pod.metadata.uid !== pod.metadata.uid) return;
        this.#told.delete(key);
        this.#refreshPod(key);
      },
    });
    this.#isKnown = true;
    this.#schedule();
  }

  #refreshPolicy(key: string): void {
    const policy = this.#policies.get(key);
    const before = this.#compiled.get(key);
    const after = policy === undefined ? undefined : compilePolicy(policy);
    for (const selection of selectionsOf(after)) this.#selections.hold(selection);
    for (const selection of selectionsOf(before)) this.#selections.release(selection);
    if (after === undefined) this.#compiled.delete(key);
    else this.#compiled.set(key, after);
    if (this.#isKnown && this.#pods === undefined) void this.#followPods();
    this.#touch();
  }

  #refreshNamespace(namespace: Namespace | undefined, name: string): void {
    const labels = namespace === undefined ? undefined : (namespace.metadata.labels ?? {});
    if (this.#selections.setNamespace(name, labels)) this.#touch();
  }

  #refreshPod(key: string): void {
    const pod = this.#pods?.get(key);
    let told = this.#told.get(key);
    const isSameAsTold = pod !== undefined && pod.status?.podIP === told?.ip;
    if (isSameAsTold || (pod !== undefined && pod.metadata.uid !== told?.pod.metadata.uid)) {
      this.#told.delete(key);
      told = undefined;
    }
    const known = pod ?? told?.pod;
    const facts = known === undefined ? undefined : podFacts(known, this.#options.nodeName, told?.ip);
    if (this.#selections.setPod(key, facts)) this.#touch();
  }

  #touch(): void {
    this.#isDirty = true;
    if (this.#isKnown) this.#schedule();
  }

  #whenApplied(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#schedule();
    });
  }

  #schedule(delayMs = rulesDelayMs): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = this.#options.clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#work = this.#work.then(() => this.#sync());
    });
  }

  async #sync(): Promise<void> {
    if (this.#closed || !this.#isKnown) return;
    const { nft, table, log } = this.#options;
    const waiting = this.#waiting;
    this.#waiting = [];
    const wanted = this.#isDirty ? planPolicies(this.#compiled.values(), this.#selections) : this.#applied;
    const commands = wanted === this.#applied ? [] : diffPolicies(table, this.#applied, wanted);
    this.#isDirty = false;
    try {
      if (!this.#hasTable) await nft.run(`${policyTable(table)}\n${commands.join('\n')}`);
      else if (commands.length > 0) await nft.run(commands.join('\n'));
      this.#applied = wanted;
      this.#hasTable = true;
      for (const resolve of waiting) resolve();
    } catch (error) {
      log.error('network policies could not be applied; making the table anew', { error });
      this.#hasTable = false;
      this.#isDirty = true;
      this.#applied = emptyPolicyRules();
      this.#waiting.push(...waiting);
      this.#schedule(rulesRetryMs);
    }
  }
}

function selectionsOf(policy: CompiledPolicy | undefined): Selection[] {
  if (policy === undefined) return [];
  return [policy.subject, ...(policy.ingress?.peers ?? []), ...(policy.egress?.peers ?? [])];
}

/** Calls back with the key of each object that is there, comes, changes or goes. */
function follow<T extends KubeObject>(informer: Informer<T>, refresh: (key: string) => void): void {
  const look = (object: T): void => refresh(keyOf(object));
  informer.addHandler({ added: look, updated: look, deleted: look });
}
