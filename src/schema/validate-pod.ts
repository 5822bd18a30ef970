/**
 * Validation of Pods and Pod templates: what the API reference demands, with the messages of the reference
 * implementation and in its order.
 */
import type { Pod, PodSpec, PodTemplateSpec, Volume } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import { matchProfiles, validateProfileAnnotations } from './apparmor-annotations.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { validateResources } from './validate-resources.ts';
import type { PodScope } from './validate-mounts.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';
import { validatePodClaims, validatePodResources } from './validate-pod-claims.ts';
import {
  validateContainers,
  validateEphemeralContainers,
  validateImageText,
  validateInitContainers,
} from './validate-pod-containers.ts';
import {
  validateDns,
  validateFileVolumes,
  validateGates,
  validateHostAliases,
  validateHostnameOverride,
  validateHostPortsOfNetwork,
  validateHostUsers,
} from './validate-pod-fields.ts';
import { validatePodOs } from './validate-pod-os.ts';
import { validateHostProcess, validatePodSecurity } from './validate-security.ts';
import { validateAffinity } from './validate-selector.ts';
import { validateSpread, validateTolerations } from './validate-scheduling.ts';
import { nonNegative, validateInt32 } from './validate-values.ts';
import { validateVolumeSource } from './validate-volume-source.ts';

/** The volumes that are right, by name: others cannot be mounted. */
function validateVolumes(
  list: Draft<Volume>[] | undefined,
  at: string,
  errors: FieldErrors,
): Map<string, Draft<Volume>> {
  const right = new Map<string, Draft<Volume>>();
  (list ?? []).forEach((volume, i) => {
    const path = `${at}[${i}]`;
    const { name = '' } = volume;
    const before = errors.causes.length;
    validateVolumeSource(volume, path, errors);
    if (name === '') errors.required(`${path}.name`);
    else if (labelProblem(name) !== '') errors.invalid(`${path}.name`, name, labelProblem(name));
    if (right.has(name)) errors.duplicate(`${path}.name`, name);
    if (errors.causes.length === before) right.set(name, volume);
  });
  return right;
}

const restartPolicies = ['Always', 'OnFailure', 'Never'];
const dnsPolicies = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];
const preemptionPolicies = ['PreemptLowerPriority', 'Never'];

function validateChoice(value: string | undefined, choices: readonly string[], at: string, errors: FieldErrors): void {
  if (value === undefined || value === '') errors.required(at);
  else if (!choices.includes(value)) errors.unsupported(at, value, choices);
}

function validateName(
  name: string | undefined,
  problemOf: (name: string) => string,
  at: string,
  errors: FieldErrors,
): void {
  if (name && problemOf(name) !== '') errors.invalid(at, name, problemOf(name));
}

/** `isPod`: the spec is that of a Pod, not of a template. */
export function validatePodSpec(spec: Draft<PodSpec>, at: string, errors: FieldErrors, isPod = false): void {
  const volumes = validateVolumes(spec.volumes, `${at}.volumes`, errors);
  const claims = new Set((spec.resourceClaims ?? []).flatMap(({ name }) => name ?? []));
  const pod: PodScope = { spec, volumes, claims };
  validatePodClaims(spec.resourceClaims, `${at}.resourceClaims`, errors);
  validateContainers(pod, `${at}.containers`, errors);
  validateInitContainers(pod, `${at}.initContainers`, errors);
  validateEphemeralContainers(pod, `${at}.ephemeralContainers`, errors);
  validatePodResources(pod, `${at}.resources`, errors);
  validateHostPortsOfNetwork(spec, `${at}.containers`, isPod, errors);
  validateChoice(spec.restartPolicy, restartPolicies, `${at}.restartPolicy`, errors);
  validateChoice(spec.dnsPolicy, dnsPolicies, `${at}.dnsPolicy`, errors);
  validateLabels(spec.nodeSelector, `${at}.nodeSelector`, errors);
  // Upstream's paths are those of the Pod's spec for what is below its security context.
  validatePodSecurity(spec, `${at}.securityContext`, errors);
  if (spec.hostPID === true && spec.shareProcessNamespace === true)
    errors.invalid(`${at}.shareProcessNamespace`, true, 'ShareProcessNamespace and HostPID cannot both be enabled');
  validateAffinity(spec.affinity, `${at}.affinity`, errors);
  validateDns(spec, `${at}.dnsConfig`, errors);
  (spec.readinessGates ?? []).forEach(({ conditionType = '' }, i) => {
    for (const problem of qualifiedNameProblems(conditionType))
      errors.invalid(`${at}.readinessGates[${i}].conditionType`, conditionType, problem);
  });
  validateGates(spec.schedulingGates, `${at}.schedulingGates`, errors);
  validateSpread(spec.topologySpreadConstraints, `${at}.topologySpreadConstraints`, errors);
  validateHostProcess(spec, at, errors);
  validateHostUsers(spec, at, errors);
  validateHostnameOverride(spec, at, errors);
  validatePlace(spec, at, errors);
  validatePodOs(spec, at, errors);
  validateFileVolumes(spec, at, errors);
}

/** Whose the Pod is, where it runs and what it is called there. */
function validatePlace(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  validateName(spec.serviceAccountName, subdomainProblem, `${at}.serviceAccountName`, errors);
  validateName(spec.nodeName, subdomainProblem, `${at}.nodeName`, errors);
  validateInt32(spec.activeDeadlineSeconds, `${at}.activeDeadlineSeconds`, errors, 1);
  validateName(spec.hostname, labelProblem, `${at}.hostname`, errors);
  validateName(spec.subdomain, labelProblem, `${at}.subdomain`, errors);
  validateTolerations(spec.tolerations, `${at}.tolerations`, errors);
  validateHostAliases(spec.hostAliases, `${at}.hostAliases`, errors);
  validateName(spec.priorityClassName, subdomainProblem, `${at}.priorityClassName`, errors);
  const { runtimeClassName: runtime, preemptionPolicy } = spec;
  if (typeof runtime === 'string' && subdomainProblem(runtime) !== '')
    errors.invalid(`${at}.runtimeClassName`, runtime, subdomainProblem(runtime));
  if (typeof preemptionPolicy === 'string')
    validateChoice(preemptionPolicy, preemptionPolicies, `${at}.preemptionPolicy`, errors);
  if (spec.overhead) validateResources({ limits: spec.overhead }, `${at}.overhead`, errors);
}

export function validateTemplate(template: Draft<PodTemplateSpec> | undefined, at: string, errors: FieldErrors): void {
  if (!template) {
    errors.required(at);
    return;
  }
  validateTemplateMetadata(template, at, errors);
  validatePodSpec(template.spec ?? {}, `${at}.spec`, errors);
  matchProfiles(template.metadata?.annotations, template.spec ?? {}, `${at}.spec`, errors);
  if ((template.spec?.ephemeralContainers ?? []).length > 0)
    errors.forbidden(`${at}.spec.ephemeralContainers`, 'ephemeral containers not allowed in pod template');
}

function validateTemplateMetadata({ metadata, spec }: Draft<PodTemplateSpec>, at: string, errors: FieldErrors): void {
  const { labels, annotations } = metadata ?? {};
  // Upstream's paths leave `metadata` out.
  validateLabels(labels, `${at}.labels`, errors);
  validateAnnotations(annotations, `${at}.annotations`, errors);
  validateProfileAnnotations(annotations, spec ?? {}, `${at}.annotations`, errors);
}

/** A Pod as it is, new or not. */
export function validatePod(pod: Draft<Pod>, errors: FieldErrors, old: Pod | undefined): void {
  const spec = pod.spec ?? {};
  validateProfileAnnotations(pod.metadata?.annotations, spec, 'metadata.annotations', errors);
  validatePodSpec(spec, 'spec', errors, true);
  if (!spec.serviceAccountName)
    (spec.volumes ?? []).forEach(({ projected }, i) =>
      (projected?.sources ?? []).forEach(({ serviceAccountToken }, j) => {
        if (serviceAccountToken)
          errors.forbidden(
            `spec.volumes[${i}].projected.sources[${j}].serviceAccountToken`,
            'must not be specified when serviceAccountName is not set',
          );
      }),
    );
  nonNegative(spec.terminationGracePeriodSeconds, 'spec.terminationGracePeriodSeconds', errors);
  for (const list of ['containers', 'initContainers'] as const)
    (spec[list] ?? []).forEach(({ image }, i) => validateImageText(image, `spec.${list}[${i}]`, errors));
  if (old !== undefined) return;
  if ((spec.ephemeralContainers ?? []).length > 0)
    errors.forbidden('spec.ephemeralContainers', 'cannot be set on create');
  if ((spec.schedulingGates ?? []).length > 0 && spec.nodeName)
    errors.forbidden('spec.nodeName', 'cannot be set until all schedulingGates have been cleared');
  matchProfiles(pod.metadata?.annotations, spec, 'spec', errors);
}
