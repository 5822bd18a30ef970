/**
 * Rules of a Pod's spec that look at several fields at once: host ports, the host's namespaces, block devices, gates,
 * the time of hooks.
 */
import type { Container, PodDNSConfig, PodOS, PodSchedulingGate, PodSpec, Volume } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity } from '#base/quantity.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { dnsSearchesMax, nameserversMax } from './limits.ts';
import { subdomainProblem } from './name-forms.ts';
import { validateResizePolicies } from './validate-container.ts';
import { validateNoBacksteps } from './validate-values.ts';
import { validateClaimUses, validatePodClaims, validatePodResources } from './validate-pod-claims.ts';
import { validatePodOs } from './validate-pod-os.ts';

type Listed = [container: Draft<Container>, at: string];

const listed = (list: Draft<Container>[] | undefined, at: string): Listed[] =>
  (list ?? []).map((container, i) => [container, `${at}[${i}]`]);

/** Containers run side by side and share the node's ports; init containers run one by one. */
function validateHostPorts(containers: readonly Listed[], errors: FieldErrors): void {
  const taken = new Set<string>();
  for (const [container, at] of containers) {
    (container.ports ?? []).forEach((port, i) => {
      if (!port.hostPort) return;
      const id = `${port.protocol ?? 'TCP'}/${port.hostIP ?? ''}/${port.hostPort}`;
      if (taken.has(id)) errors.duplicate(`${at}.ports[${i}].hostPort`, id);
      taken.add(id);
    });
  }
}

function validateHostNamespaces(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  if (spec.hostPID === true && spec.shareProcessNamespace === true)
    errors.invalid(`${at}.shareProcessNamespace`, true, 'ShareProcessNamespace and HostPID cannot both be enabled');
  if (spec.hostNetwork !== true) return;
  for (const [container, path] of listed(spec.containers, `${at}.containers`)) {
    (container.ports ?? []).forEach((port, i) => {
      if (port.hostPort && port.hostPort !== port.containerPort)
        errors.invalid(
          `${path}.ports[${i}].hostPort`,
          port.hostPort,
          'must match `containerPort` when `hostNetwork` is true',
        );
    });
  }
}

function validateDevices(
  [container, at]: Listed,
  volumes: ReadonlyMap<string, Draft<Volume>>,
  errors: FieldErrors,
): void {
  (container.volumeDevices ?? []).forEach((device, i) => {
    const path = `${at}.volumeDevices[${i}]`;
    const volume = volumes.get(device.name ?? '');
    if (!device.name) errors.required(`${path}.name`);
    else if (volume === undefined) errors.notFound(`${path}.name`, device.name);
    else if (!volume.persistentVolumeClaim && !volume.ephemeral)
      errors.invalid(
        `${path}.name`,
        device.name,
        'can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode',
      );
    if (!device.devicePath) errors.required(`${path}.devicePath`);
    else validateNoBacksteps(device.devicePath, `${path}.devicePath`, errors);
    if ((container.volumeMounts ?? []).some((mount) => mount.name === device.name))
      errors.invalid(`${path}.name`, device.name, 'must not already exist in volumeMounts');
  });
}

function validateHooks([container, at]: Listed, graceSeconds: unknown, errors: FieldErrors): void {
  if (typeof graceSeconds !== 'number') return;
  for (const hook of ['postStart', 'preStop'] as const) {
    const seconds = container.lifecycle?.[hook]?.sleep?.seconds;
    if (typeof seconds === 'number' && (seconds < 0 || seconds > graceSeconds)) {
      errors.invalid(
        `${at}.lifecycle.${hook}.sleep`,
        seconds,
        `must be non-negative and less than terminationGracePeriodSeconds (${graceSeconds})`,
      );
    }
  }
}

function validateProcMount([container, at]: Listed, spec: Draft<PodSpec>, errors: FieldErrors): void {
  const mount: unknown = container.securityContext?.procMount;
  if (mount === undefined || mount === null) return;
  if (mount !== 'Default' && mount !== 'Unmasked')
    errors.unsupported(`${at}.securityContext.procMount`, mount, ['Default', 'Unmasked']);
  else if (mount === 'Unmasked' && spec.hostUsers !== false)
    errors.invalid(`${at}.securityContext.procMount`, mount, '`hostUsers` must be false to use `Unmasked`');
}

/** Linux takes 64 bytes. */
const hostnameBytesMax = 64;

export function validateHostnameOverride(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const { hostnameOverride: name } = spec;
  if (name === undefined || name === null) return;
  const path = `${at}.hostnameOverride`;
  if (spec.setHostnameAsFQDN === true) errors.forbidden(path, 'may not be specified when setHostnameAsFQDN is true');
  if (spec.hostNetwork === true) errors.forbidden(path, 'may not be specified when hostNetwork is true');
  if (name.length > hostnameBytesMax) errors.tooLong(path, hostnameBytesMax);
  if (subdomainProblem(name) !== '') errors.invalid(path, name, subdomainProblem(name));
}

function validateGates(gates: Draft<PodSchedulingGate>[] | undefined, at: string, errors: FieldErrors): void {
  const seen = new Set<string>();
  (gates ?? []).forEach(({ name = '' }, i) => {
    for (const problem of qualifiedNameProblems(name)) errors.invalid(`${at}[${i}].name`, name, problem);
    if (seen.has(name)) errors.duplicate(`${at}[${i}]`, name);
    seen.add(name);
  });
}

function validateDns(config: Draft<PodDNSConfig> | undefined, at: string, errors: FieldErrors): void {
  const { nameservers = [], searches = [], options = [] } = config ?? {};
  if (nameservers.length > nameserversMax)
    errors.invalid(`${at}.nameservers`, nameservers, `must not have more than ${nameserversMax} nameservers`);
  if (searches.length > dnsSearchesMax)
    errors.invalid(`${at}.searches`, searches, `must not have more than ${dnsSearchesMax} search paths`);
  options.forEach((option, i) => {
    if (!option.name) errors.required(`${at}.options[${i}]`, 'must not be empty');
  });
}

function validateOs(os: Draft<PodOS> | undefined, at: string, errors: FieldErrors): void {
  if (os === undefined || os === null) return;
  if (!os.name) errors.required(`${at}.name`);
  else if (!['linux', 'windows'].includes(os.name)) errors.unsupported(at, os.name, ['linux', 'windows']);
}

/** What validatePodSpec leaves: each rule here needs more than the field it names, or stands for the Pod as a whole. */
export function validateAcrossFields(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const containers = listed(spec.containers, `${at}.containers`);
  const inits = listed(spec.initContainers, `${at}.initContainers`);
  const volumes = new Map((spec.volumes ?? []).map((volume) => [volume.name ?? '', volume]));
  validateHostPorts(containers, errors);
  for (const init of inits) validateHostPorts([init], errors);
  validateHostNamespaces(spec, at, errors);
  for (const entry of [...containers, ...inits]) {
    validateDevices(entry, volumes, errors);
    validateHooks(entry, spec.terminationGracePeriodSeconds, errors);
    validateProcMount(entry, spec, errors);
  }
  validateGates(spec.schedulingGates, `${at}.schedulingGates`, errors);
  validateDns(spec.dnsConfig, `${at}.dnsConfig`, errors);
  validatePodClaims(spec.resourceClaims, `${at}.resourceClaims`, errors);
  validateClaimUses(spec, at, errors);
  validatePodResources(spec, at, errors);
  for (const [container, path] of [...containers, ...inits])
    validateResizePolicies(container, path, spec.restartPolicy, errors);
  (spec.readinessGates ?? []).forEach(({ conditionType = '' }, i) => {
    for (const problem of qualifiedNameProblems(conditionType))
      errors.invalid(`${at}.readinessGates[${i}].conditionType`, conditionType, problem);
  });
  validateOs(spec.os, `${at}.os`, errors);
  validatePodOs(spec, at, errors);
  (spec.volumes ?? []).forEach((volume, i) => {
    const size: unknown = volume.emptyDir?.sizeLimit;
    if (isQuantity(size) && compareQuantities(String(size), '0') < 0)
      errors.forbidden(`${at}.volumes[${i}].emptyDir.sizeLimit`, 'SizeLimit field must be a valid resource quantity');
  });
}
