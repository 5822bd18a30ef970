/** What of a Pod may change once it is there, by the object itself and by its subresources. */
import type { Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { isObject } from '#base/unknown.ts';
import { keepProfileAnnotations } from './apparmor-annotations.ts';
import type { FieldErrors } from './field-errors.ts';
import { validateTolerations } from './validate-scheduling.ts';
import { validatePod } from './validate-pod.ts';
import { validateImageText } from './validate-pod-containers.ts';
import { sameJson } from './validate-values.ts';

const mutable =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';
const shownChangesMax = 5;

/** A spec with what an update may change taken out. */
function frozenPart(spec: Draft<PodSpec>, old: PodSpec): Draft<PodSpec> {
  const containers = (list: Draft<Container>[] = []): Draft<Container>[] =>
    list.map(({ image: _image, ...rest }) => rest);
  const { activeDeadlineSeconds: _a, tolerations: _t, schedulingGates: _g, ...rest } = spec;
  const { terminationGracePeriodSeconds: before = 0 } = old;
  const seconds = before < 0 && spec.terminationGracePeriodSeconds === 1 ? before : spec.terminationGracePeriodSeconds;
  return {
    ...rest,
    ...(seconds === undefined ? {} : { terminationGracePeriodSeconds: seconds }),
    containers: containers(spec.containers),
    initContainers: containers(spec.initContainers),
  };
}

export function validatePodUpdate(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const spec = pod.spec ?? {};
  keepProfileAnnotations(pod, old, errors);
  for (const list of ['containers', 'initContainers'] as const) {
    const containers = spec[list] ?? [];
    if (containers.length !== (old.spec[list] ?? []).length) {
      errors.forbidden(`spec.${list}`, 'pod updates may not add or remove containers');
      return;
    }
    containers.forEach(({ image = '' }, i) => {
      if (image === '') errors.required(`spec.${list}[${i}].image`);
      validateImageText(image, `spec.${list}[${i}]`, errors);
    });
  }
  if (!validateDeadline(spec, old.spec, errors)) return;
  validateAdditions(spec, old.spec, errors);
  const [now, before] = [frozenPart(spec, old.spec), frozenPart(old.spec, old.spec)];
  if ((old.spec.schedulingGates ?? []).length > 0) settleGated(now, before, errors);
  if (sameJson(now, before)) return;
  const changed = changedFields(now, before);
  const more = changed.length > shownChangesMax ? ', …' : '';
  errors.forbidden('spec', `${mutable}\n  changed: ${changed.slice(0, shownChangesMax).join(', ')}${more}`);
}

/** Whether the rest is to be looked at. */
function validateDeadline(spec: Draft<PodSpec>, old: PodSpec, errors: FieldErrors): boolean {
  const at = 'spec.activeDeadlineSeconds';
  const [now, before] = [spec.activeDeadlineSeconds, old.activeDeadlineSeconds];
  if (now === undefined || now === null) {
    if (before !== undefined) errors.invalid(at, null, 'must not update from a positive integer to nil value');
    return true;
  }
  if (now < 0 || now > 2_147_483_647) errors.invalid(at, now, 'must be between 0 and 2147483647, inclusive');
  else if (before !== undefined && before < now)
    errors.invalid(at, now, 'must be less than or equal to previous value');
  else return true;
  return false;
}

/** Tolerations come, gates go. */
function validateAdditions(spec: Draft<PodSpec>, old: PodSpec, errors: FieldErrors): void {
  const tolerations = spec.tolerations ?? [];
  const isKept = (old.tolerations ?? []).every(({ tolerationSeconds: _old, ...before }) =>
    tolerations.some(({ tolerationSeconds: _now, ...now }) => sameJson(now, before)),
  );
  if (!isKept)
    errors.forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds');
  else validateTolerations(tolerations, 'spec.tolerations', errors);
  const gates = new Set((old.schedulingGates ?? []).map(({ name }) => name));
  (spec.schedulingGates ?? []).forEach(({ name = '' }, i) => {
    if (!gates.has(name))
      errors.forbidden(
        `spec.schedulingGates[${i}].name`,
        `only deletion is allowed, but found new scheduling gate '${name}'`,
      );
  });
}

/** While a Pod waits at a gate, where it goes may be narrowed. */
function settleGated(now: Draft<PodSpec>, before: Draft<PodSpec>, errors: FieldErrors): void {
  const selected = now.nodeSelector ?? {};
  if (Object.entries(before.nodeSelector ?? {}).some(([key, value]) => selected[key] !== value))
    errors.invalid(
      'spec.nodeSelector',
      now.nodeSelector ?? null,
      'only additions to spec.nodeSelector are allowed (no mutations or deletions)',
    );
  delete now.nodeSelector;
  delete before.nodeSelector;
  const at = 'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms';
  const [terms, former] = [termsOf(now.affinity?.nodeAffinity), termsOf(before.affinity?.nodeAffinity)];
  if (former.length > 0 && terms.length !== former.length)
    errors.invalid(at, terms, 'no additions/deletions to non-empty NodeSelectorTerms list are allowed');
  else
    former.forEach((term, i) => {
      if (!onlyAdds(terms[i] ?? {}, term))
        errors.invalid(`${at}[${i}]`, terms[i], 'only additions are allowed (no mutations or deletions)');
    });
  for (const spec of [now, before]) {
    const { nodeAffinity: _n, ...rest } = spec.affinity ?? {};
    if (Object.keys(rest).length > 0) spec.affinity = rest;
    else delete spec.affinity;
  }
}

const termsOf = (affinity: Draft<NodeAffinity> | undefined): Draft<NodeSelectorTerm>[] =>
  affinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];

function onlyAdds(now: Draft<NodeSelectorTerm>, before: Draft<NodeSelectorTerm>): boolean {
  const lists = ['matchExpressions', 'matchFields'] as const;
  if (lists.every((list) => (before[list] ?? []).length === 0))
    return lists.every((list) => (now[list] ?? []).length === 0);
  return lists.every((list) => {
    const former = before[list] ?? [];
    return sameJson((now[list] ?? []).slice(0, former.length), former);
  });
}

/** The fields that differ, as far as two objects have the same form: `spec.containers[0].env`. */
function changedFields(now: unknown, before: unknown, at = 'spec'): string[] {
  if (sameJson(now, before)) return [];
  if (Array.isArray(now) && Array.isArray(before) && now.length === before.length)
    return now.flatMap((item, i) => changedFields(item, before[i], `${at}[${i}]`));
  if (!isObject(now) || !isObject(before)) return [at];
  const keys = new Set([...Object.keys(now), ...Object.keys(before)]);
  return [...keys].flatMap((key) => changedFields(now[key], before[key], `${at}.${key}`));
}

/** Of `ephemeralcontainers`: those that are there stay as they are. */
export function validateEphemeralUpdate(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  validatePod(pod, errors, old);
  if (old.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) {
    errors.forbidden('', 'static pods do not support ephemeral containers');
    return;
  }
  const now = new Map((pod.spec?.ephemeralContainers ?? []).map((container) => [container.name, container]));
  for (const before of old.spec.ephemeralContainers ?? []) {
    const container = now.get(before.name);
    const named = `existing ephemeral containers ${JSON.stringify(before.name)}`;
    if (container === undefined) errors.forbidden('spec.ephemeralContainers', `${named} may not be removed`);
    else if (!sameJson(container, before)) errors.forbidden('spec.ephemeralContainers', `${named} may not be changed`);
  }
}

/**
 * Of a resize: processor and memory change, nothing else does, and nothing is taken away. Rules: Kubernetes
 * documentation, "Resize CPU and Memory Resources assigned to Containers / Limitations".
 */
export function validateResize(spec: Draft<PodSpec>, old: PodSpec, errors: FieldErrors): void {
  for (const list of ['containers', 'initContainers'] as const)
    (old[list] ?? []).forEach((before, i) => {
      const at = `spec.${list}[${i}]`;
      const after = (spec[list] ?? []).find(({ name }) => name === before.name);
      for (const part of ['requests', 'limits'] as const) {
        const had = before.resources?.[part] ?? {};
        const has = after?.resources?.[part] ?? {};
        if (Object.keys(had).some((name) => !(name in has)))
          errors.forbidden(`${at}.resources.${part}`, `resource ${part} cannot be removed`);
        const names = new Set([...Object.keys(had), ...Object.keys(has)]);
        if ([...names].some((name) => name !== 'cpu' && name !== 'memory' && had[name] !== has[name]))
          errors.forbidden('spec', 'only cpu and memory resources are mutable');
      }
      const restarts = (before.resizePolicy ?? []).some(({ restartPolicy }) => restartPolicy === 'RestartContainer');
      const isPreparation = list === 'initContainers' && before.restartPolicy !== 'Always';
      if (isPreparation && restarts && !sameJson(before.resources, after?.resources))
        errors.forbidden(at, 'non-sidecar init containers with a resize policy of RestartContainer cannot be resized');
    });
}
