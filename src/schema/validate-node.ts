/** Validation of nodes (core/v1 Node; Kubernetes, "Nodes"). */
import type { ConfigMapNodeConfigSource, Node, NodeConfigSource, Taint } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { parseCidr } from '#base/ip.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { cidrProblem } from './ip-fields.ts';
import { validateAmount } from './resource-names.ts';

const taintEffects = ['NoExecute', 'NoSchedule', 'PreferNoSchedule'];

export function validateNode(o: Draft<Node>, errors: FieldErrors, old: Node | undefined): void {
  validateTaints(o.spec?.taints ?? [], errors);
  const { swap } = o.status?.nodeInfo ?? {};
  if (swap?.capacity !== undefined && swap.capacity <= 0)
    errors.invalid('metadata.nodeSwapStatus.capacity', swap.capacity, 'must be greater than 0');
  validatePodRanges(o.spec?.podCIDRs ?? [], errors);
  if (old === undefined) validateStatus(o, errors);
}

function validateTaints(taints: readonly Draft<Taint>[], errors: FieldErrors): void {
  const seen = new Set<string>();
  taints.forEach((taint, i) => {
    // Upstream's paths begin so.
    const at = `metadata.taints[${i}]`;
    const { key = '', value = '', effect = '' } = taint;
    for (const problem of qualifiedNameProblems(key)) errors.invalid(`${at}.key`, key, problem);
    for (const problem of labelValueProblems(value)) errors.invalid(`${at}.value`, value, problem);
    if (effect === '') errors.required(`${at}.effect`);
    else if (!taintEffects.includes(effect)) errors.unsupported(`${at}.effect`, effect, taintEffects);
    const id = JSON.stringify([key, effect]);
    if (seen.has(id)) errors.duplicate(at, taint);
    seen.add(id);
  });
}

/** What a node has, and what it says that it can do. */
function validateStatus({ status }: Draft<Node>, errors: FieldErrors): void {
  for (const list of ['capacity', 'allocatable'] as const)
    for (const [name, value] of Object.entries(status?.[list] ?? {})) {
      validateAmount(name, value, `status.${list}.${name}`, errors);
    }
  validateFeatures(status?.declaredFeatures ?? [], errors);
}

const featureForm = /^[A-Z][a-zA-Z0-9]*(\/[a-zA-Z][a-zA-Z0-9]*)*$/;

function validateFeatures(features: readonly string[], errors: FieldErrors): void {
  const at = 'status.declaredFeatures';
  features.forEach((feature, i) => {
    if (!featureForm.test(feature))
      errors.invalid(`${at}[${i}]`, feature, `invalid feature name ${JSON.stringify(feature)}`);
    const next = features[i + 1];
    if (next === feature) errors.duplicate(`${at}[${i + 1}]`, next);
    else if (next !== undefined && feature > next)
      errors.invalid(`${at}[${i + 1}]`, next, 'list must be sorted alphabetically');
  });
}

/** One of each family. */
function validatePodRanges(ranges: readonly string[], errors: FieldErrors): void {
  ranges.forEach((range, i) => {
    if (cidrProblem(range) !== '') errors.invalid(`spec.podCIDRs[${i}]`, range, cidrProblem(range));
  });
  if (ranges.length < 2) return;
  const families = ranges.map((range) => parseCidr(range)?.address.family);
  if (families.includes(undefined))
    errors.internal(
      'spec.podCIDRs',
      'invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR address',
    );
  if (ranges.length > 2 || families[0] === families[1] || families.includes(undefined))
    errors.invalid('spec.podCIDRs', ranges, 'may specify no more than one CIDR for each IP family');
}

/** Of any update, to the status too: what is given to a node once stays. */
export function validateNodeUpdate(o: Draft<Node>, old: Node, errors: FieldErrors): void {
  validateStatus(o, errors);
  const addresses = new Set<string>();
  (o.status?.addresses ?? []).forEach((address, i) => {
    const id = JSON.stringify([address.type, address.address]);
    if (addresses.has(id)) errors.duplicate(`status.addresses[${i}]`, address);
    addresses.add(id);
  });
  validateKeptSpec(o, old, errors);
  if (o.spec?.configSource !== undefined) validateSource(o.spec.configSource, 'spec.configSource', errors);
}

function validateKeptSpec({ spec }: Draft<Node>, old: Node, errors: FieldErrors): void {
  const [now, was] = [spec?.podCIDRs ?? [], old.spec?.podCIDRs ?? []];
  const moved = was.filter((range, i) => range !== now[i]);
  const lines = was.length === 0 ? 0 : was.length === now.length ? moved.length : 1;
  for (let i = 0; i < lines; i++)
    errors.forbidden('spec.podCIDRs', 'node updates may not change podCIDR except from "" to valid');
  const provider = old.spec?.providerID ?? '';
  if (provider !== '' && spec?.providerID !== provider)
    errors.invalid(
      'spec.providerID',
      null,
      spec?.providerID ? 'field cannot be modified once set' : 'field cannot be cleared once set',
    );
  if ((spec?.externalID ?? '') !== (old.spec?.externalID ?? ''))
    errors.forbidden('spec.externalID', 'may not be updated');
}

/** Of a feature that is gone: who has it keeps it in order. */
function validateSource({ configMap }: Draft<NodeConfigSource>, at: string, errors: FieldErrors): void {
  if (configMap === undefined) {
    errors.invalid(at, {}, 'exactly one reference subfield must be non-nil');
    return;
  }
  for (const field of ['uid', 'resourceVersion'] as const satisfies readonly (keyof ConfigMapNodeConfigSource)[])
    if (configMap[field]) errors.forbidden(`${at}.configMap.${field}`, `${field} must not be set in spec`);
  for (const field of ['namespace', 'name', 'kubeletConfigKey'] as const)
    if (!configMap[field]) errors.required(`${at}.configMap.${field}`);
}

export function warnOfNode({ spec }: Draft<Node>, _old: Node | undefined, warn: (text: string) => void): void {
  if (spec?.configSource !== undefined) warn('spec.configSource: the feature is removed');
  if (spec?.externalID) warn('spec.externalID: this field is deprecated, and is unused by Kubernetes');
}
