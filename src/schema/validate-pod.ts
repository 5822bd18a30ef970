/**
 * Validation of Pods and Pod templates: what the API reference demands, with the messages of the reference
 * implementation.
 */
import type {
  Container,
  Pod,
  PodSpec,
  PodTemplateSpec,
  Toleration,
  TopologySpreadConstraint,
  Volume,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import { isPodSysctlName, sysctlNameForm, sysctlNameLengthMax, sysctlNamespace } from '#base/sysctls.ts';
import type { FieldErrors } from './field-errors.ts';
import { resourceNameProblems } from './resource-names.ts';
import { ipProblem } from './ip-fields.ts';
import { keepProfileAnnotations, validateProfileAnnotations } from './apparmor-annotations.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { validateEnvFiles } from './validate-env-files.ts';
import {
  validateAppArmor,
  validateContainer,
  validateInit,
  validateResources,
  validateSeccomp,
} from './validate-container.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';
import { validateAcrossFields, validateHostnameOverride } from './validate-pod-fields.ts';
import { validateAffinity, validateLabelSelector } from './validate-selector.ts';
import { nonNegative, oneOf, sameJson, validateInt32 } from './validate-values.ts';
import { validateVolumeSource } from './validate-volume-source.ts';

export function validateTolerations(list: Draft<Toleration>[] | undefined, at: string, errors: FieldErrors): void {
  (list ?? []).forEach((t, i) => {
    const path = `${at}[${i}]`;
    if (t.key) for (const problem of qualifiedNameProblems(t.key)) errors.invalid(`${path}.key`, t.key, problem);
    if (!t.key && t.operator !== 'Exists')
      errors.invalid(
        `${path}.operator`,
        t.operator ?? '',
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      );
    if (t.tolerationSeconds !== undefined && t.effect !== 'NoExecute')
      errors.invalid(`${path}.effect`, t.effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set");
    if (t.operator === 'Exists' && t.value)
      errors.invalid(`${path}.operator`, t, "value must be empty when `operator` is 'Exists'");
    if (!t.operator || t.operator === 'Equal')
      for (const problem of labelValueProblems(t.value ?? '')) errors.invalid(`${path}.operator`, t.value, problem);
    // Comparing (Gt, Lt) is a feature that is off by default.
    oneOf(t.operator, ['Equal', 'Exists'], `${path}.operator`, errors);
    oneOf(t.effect, ['NoExecute', 'NoSchedule', 'PreferNoSchedule'], `${path}.effect`, errors);
  });
}

/** Form and namespace of each name; which of them a node allows, the kubelet says. */
function validateSysctls(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const seen = new Set<string>();
  (spec.securityContext?.sysctls ?? []).forEach(({ name }, i) => {
    const path = `${at}.securityContext.sysctls[${i}].name`;
    if (!name) {
      errors.required(path);
      return;
    }
    if (!isPodSysctlName(name))
      errors.invalid(
        path,
        name,
        `must have at most ${sysctlNameLengthMax} characters and match regex ${sysctlNameForm}`,
      );
    else if (seen.has(name)) errors.duplicate(path, name);
    seen.add(name);
    const namespace = sysctlNamespace(name);
    if (namespace === 'network' && spec.hostNetwork === true)
      errors.invalid(path, name, "may not be specified when 'hostNetwork' is true");
    if (namespace === 'ipc' && spec.hostIPC === true)
      errors.invalid(path, name, "may not be specified when 'hostIPC' is true");
  });
}

function uniqueNames(list: readonly { name?: string }[], at: string, seen: Set<string>, errors: FieldErrors): void {
  list.forEach((c, i) => {
    if (c.name) {
      if (seen.has(c.name)) errors.duplicate(`${at}[${i}].name`, c.name);
      seen.add(c.name);
    }
  });
}

function validateSpread(list: Draft<TopologySpreadConstraint>[] | undefined, at: string, errors: FieldErrors): void {
  (list ?? []).forEach((c, i) => {
    if (!((c.maxSkew ?? 0) > 0)) errors.invalid(`${at}[${i}].maxSkew`, c.maxSkew ?? 0, 'must be greater than zero');
    if (!c.topologyKey) errors.required(`${at}[${i}].topologyKey`, 'can not be empty');
    if (c.labelSelector) validateLabelSelector(c.labelSelector, `${at}[${i}].labelSelector`, errors);
    const twin = (list ?? []).findIndex(
      (o) => o.topologyKey === c.topologyKey && o.whenUnsatisfiable === c.whenUnsatisfiable,
    );
    if (twin < i)
      errors.duplicate(`${at}[${i}].{topologyKey, whenUnsatisfiable}`, `{${c.topologyKey}, ${c.whenUnsatisfiable}}`);
    if (!['DoNotSchedule', 'ScheduleAnyway'].includes(c.whenUnsatisfiable ?? ''))
      errors.unsupported(`${at}[${i}].whenUnsatisfiable`, c.whenUnsatisfiable ?? '', [
        'DoNotSchedule',
        'ScheduleAnyway',
      ]);
  });
}

/** The names of the volumes that are right: others cannot be mounted. */
function validateVolumes(list: Draft<Volume>[] | undefined, at: string, errors: FieldErrors): Set<string> {
  const [named, right] = [new Set<string>(), new Set<string>()];
  (list ?? []).forEach((volume, i) => {
    const path = `${at}[${i}]`;
    const { name = '' } = volume;
    const before = errors.causes.length;
    if (name === '') errors.required(`${path}.name`);
    else {
      const problem = labelProblem(name);
      if (problem !== '') errors.invalid(`${path}.name`, name, problem);
      if (named.has(name)) errors.duplicate(`${path}.name`, name);
      named.add(name);
    }
    validateVolumeSource(volume, path, errors);
    if (errors.causes.length === before) right.add(name);
  });
  return right;
}

export function validatePodSpec(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const volumes = validateVolumes(spec.volumes, `${at}.volumes`, errors);
  if ((spec.containers ?? []).length === 0) errors.required(`${at}.containers`);
  (spec.containers ?? []).forEach((c, i) => {
    validateContainer(c, `${at}.containers[${i}]`, volumes, errors);
  });
  (spec.initContainers ?? []).forEach((c, i) => {
    validateContainer(c, `${at}.initContainers[${i}]`, volumes, errors);
    validateInit(c, `${at}.initContainers[${i}]`, errors);
  });
  const names = new Set<string>();
  uniqueNames(spec.containers ?? [], `${at}.containers`, names, errors);
  uniqueNames(spec.initContainers ?? [], `${at}.initContainers`, names, errors);
  oneOf(spec.restartPolicy, ['Always', 'Never', 'OnFailure'], `${at}.restartPolicy`, errors);
  oneOf(spec.dnsPolicy, ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'], `${at}.dnsPolicy`, errors);
  if (spec.dnsPolicy === 'None' && (spec.dnsConfig?.nameservers ?? []).length === 0)
    errors.required(
      spec.dnsConfig ? `${at}.dnsConfig.nameservers` : `${at}.dnsConfig`,
      'must provide at least one DNS nameserver when `dnsPolicy` is None',
    );
  (spec.dnsConfig?.nameservers ?? []).forEach((ns, i) => {
    if (ipProblem(ns) !== '') errors.invalid(`${at}.dnsConfig.nameservers[${i}]`, ns, ipProblem(ns));
  });
  nonNegative(spec.terminationGracePeriodSeconds, `${at}.terminationGracePeriodSeconds`, errors);
  validateInt32(spec.activeDeadlineSeconds, `${at}.activeDeadlineSeconds`, errors, 1);
  for (const field of ['serviceAccountName', 'nodeName', 'priorityClassName'] as const)
    if (spec[field]) {
      const problem = subdomainProblem(spec[field]);
      if (problem !== '') errors.invalid(`${at}.${field}`, spec[field], problem);
    }
  validateHostnameOverride(spec, at, errors);
  validateEnvFiles(spec, at, errors);
  for (const field of ['hostname', 'subdomain'] as const)
    if (spec[field]) {
      const problem = labelProblem(spec[field]);
      if (problem !== '') errors.invalid(`${at}.${field}`, spec[field], problem);
    }
  validateLabels(spec.nodeSelector, `${at}.nodeSelector`, errors);
  validateTolerations(spec.tolerations, `${at}.tolerations`, errors);
  validateSpread(spec.topologySpreadConstraints, `${at}.topologySpreadConstraints`, errors);
  (spec.hostAliases ?? []).forEach((alias, i) => {
    if (ipProblem(alias.ip) !== '') errors.invalid(`${at}.hostAliases[${i}].ip`, alias.ip ?? '', ipProblem(alias.ip));
  });
  for (const field of ['runAsUser', 'runAsGroup', 'fsGroup'] as const)
    validateInt32(spec.securityContext?.[field], `${at}.securityContext.${field}`, errors);
  (spec.securityContext?.supplementalGroups ?? []).forEach((group, i) =>
    validateInt32(group, `${at}.securityContext.supplementalGroups[${i}]`, errors),
  );
  validateResources(spec.resources, `${at}.resources`, errors, resourceNameProblems);
  validateAffinity(spec.affinity, `${at}.affinity`, errors);
  validateAcrossFields(spec, at, errors);
  validateSysctls(spec, at, errors);
  validateSeccomp(spec.securityContext?.seccompProfile, `${at}.securityContext.seccompProfile`, errors);
  validateAppArmor(spec.securityContext?.appArmorProfile, `${at}.securityContext.appArmorProfile`, errors);
}

export function validateTemplate(template: Draft<PodTemplateSpec> | undefined, at: string, errors: FieldErrors): void {
  if (!template) {
    errors.required(at);
    return;
  }
  const { labels, annotations } = template.metadata ?? {};
  // Upstream's paths leave `metadata` out.
  validateLabels(labels, `${at}.labels`, errors);
  validateAnnotations(annotations, `${at}.annotations`, errors);
  validateProfileAnnotations(annotations, template.spec ?? {}, `${at}.annotations`, errors);
  validatePodSpec(template.spec ?? {}, `${at}.spec`, errors);
  if ((template.spec?.ephemeralContainers ?? []).length > 0)
    errors.forbidden(`${at}.spec.ephemeralContainers`, 'ephemeral containers not allowed in pod template');
}

export function validatePod(pod: Draft<Pod>, errors: FieldErrors, old: Pod | undefined): void {
  validateProfileAnnotations(pod.metadata?.annotations, pod.spec ?? {}, 'metadata.annotations', errors);
  validatePodSpec(pod.spec ?? {}, 'spec', errors);
  if (old === undefined && (pod.spec?.ephemeralContainers ?? []).length > 0)
    errors.forbidden('spec.ephemeralContainers', 'cannot be set on create');
  if ((pod.spec?.schedulingGates ?? []).length > 0 && pod.spec?.nodeName && old === undefined)
    errors.forbidden('spec.nodeName', 'cannot be set until all schedulingGates have been cleared');
}

const mutable =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

/** A spec with what an update may change taken out. */
function frozenPart(spec: Draft<PodSpec>, resources: boolean): Draft<PodSpec> {
  const containers = (list: Draft<Container>[] = []): Draft<Container>[] =>
    list.map(({ image: _image, ...rest }) => {
      if (resources) {
        const { resources: _r, ...left } = rest;
        return left;
      }
      return rest;
    });
  const {
    activeDeadlineSeconds: _a,
    tolerations: _t,
    schedulingGates: _g,
    containers: c,
    initContainers: i,
    ephemeralContainers: _e,
    ...rest
  } = spec;
  return { ...rest, containers: containers(c), initContainers: containers(i) };
}

export function validatePodUpdate(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const spec = pod.spec ?? {};
  if ((spec.containers ?? []).length !== (old.spec.containers ?? []).length) {
    errors.forbidden('spec.containers', 'pod updates may not add or remove containers');
    return;
  }
  if ((spec.initContainers ?? []).length !== (old.spec.initContainers ?? []).length) {
    errors.forbidden('spec.initContainers', 'pod updates may not add or remove containers');
    return;
  }
  const gated = (old.spec.schedulingGates ?? []).length > 0;
  const a = frozenPart(spec, false);
  const b = frozenPart(old.spec, false);
  keepProfileAnnotations(pod, old, errors);
  if (gated) {
    const selected = { ...spec.nodeSelector };
    if (Object.entries(old.spec.nodeSelector ?? {}).some(([key, value]) => selected[key] !== value))
      errors.invalid(
        'spec.nodeSelector',
        selected,
        'only additions to spec.nodeSelector are allowed (no mutations or deletions)',
      );
    delete a.nodeSelector;
    delete b.nodeSelector;
    delete a.affinity;
    delete b.affinity;
  }
  if (!sameJson(a, b)) errors.forbidden('spec', mutable);
  const kept = spec.tolerations ?? [];
  for (const t of old.spec.tolerations ?? [])
    if (!kept.some((k) => sameJson({ ...k, tolerationSeconds: t.tolerationSeconds }, t))) {
      errors.forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds');
      break;
    }
  const gates = new Set((old.spec.schedulingGates ?? []).map((g) => g.name));
  (spec.schedulingGates ?? []).forEach((g, i) => {
    if (!gates.has(g.name ?? ''))
      errors.forbidden(
        `spec.schedulingGates[${i}].name`,
        `only deletion is allowed, but found new scheduling gate '${g.name}'`,
      );
  });
  if (
    old.spec.activeDeadlineSeconds !== undefined &&
    (spec.activeDeadlineSeconds === undefined || spec.activeDeadlineSeconds > old.spec.activeDeadlineSeconds)
  )
    errors.invalid(
      'spec.activeDeadlineSeconds',
      spec.activeDeadlineSeconds ?? null,
      'must be less than or equal to previous value',
    );
}

export function validateEphemeralContainers(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const spec = pod.spec ?? {};
  const before = new Map((old.spec.ephemeralContainers ?? []).map((c) => [c.name, c]));
  const names = new Set([...(spec.containers ?? []), ...(spec.initContainers ?? [])].flatMap(({ name }) => name ?? []));
  const volumes = new Set((spec.volumes ?? []).flatMap(({ name }) => name ?? []));
  (spec.ephemeralContainers ?? []).forEach((c, i) => {
    const at = `spec.ephemeralContainers[${i}]`;
    const name = c.name ?? '';
    const known = before.get(name);
    before.delete(name);
    if (known !== undefined && !sameJson(known, c))
      errors.forbidden(at, `existing ephemeral container ${JSON.stringify(name)} may not be changed`);
    if (known !== undefined) return;
    validateContainer(c, at, volumes, errors);
    if (names.has(name)) errors.duplicate(`${at}.name`, name);
    names.add(name);
    for (const field of ['ports', 'livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle'] as const)
      if (c[field] && (!Array.isArray(c[field]) || c[field].length > 0))
        errors.forbidden(`${at}.${field}`, 'cannot be set for an Ephemeral Container');
    if (c.targetContainerName && !(spec.containers ?? []).some((x) => x.name === c.targetContainerName))
      errors.notFound(`${at}.targetContainerName`, c.targetContainerName);
  });
  for (const name of before.keys())
    errors.forbidden(
      'spec.ephemeralContainers',
      `existing ephemeral container ${JSON.stringify(name)} may not be removed`,
    );
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
