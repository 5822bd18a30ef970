/** What is right in a Pod, or in a template of Pods, and yet does other than its writer may think. */
import type { Container, ContainerPort, Pod, PodSpec, PodTemplateSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import { isQuantity } from '#base/quantity.ts';
import { warnOfProfileAnnotations } from './apparmor-annotations.ts';
import { labelProblem } from './name-forms.ts';
import { warnOfOverlaps } from './warn-volume.ts';
import { isWholeNumber } from './validate-values.ts';

type Warn = (text: string) => void;
type Visited = [container: Draft<Container>, at: string];

/** Annotations that fields replaced long ago: nobody reads them any more. */
const deadAnnotations: Readonly<Record<string, string>> = {
  'scheduler.alpha.kubernetes.io/critical-pod': 'non-functional in v1.16+; use the "priorityClassName" field instead',
  'security.alpha.kubernetes.io/sysctls': 'non-functional in v1.11+; use the "sysctls" field instead',
  'security.alpha.kubernetes.io/unsafe-sysctls': 'non-functional in v1.11+; use the "sysctls" field instead',
};
const deadVolumes: Readonly<Record<string, string>> = {
  photonPersistentDisk: 'deprecated in v1.11, non-functional in v1.16+',
  gitRepo: 'deprecated in v1.11, and disabled by default in v1.33+',
  scaleIO: 'deprecated in v1.16, non-functional in v1.22+',
  flocker: 'deprecated in v1.22, non-functional in v1.25+',
  storageos: 'deprecated in v1.22, non-functional in v1.25+',
  quobyte: 'deprecated in v1.22, non-functional in v1.25+',
  glusterfs: 'deprecated in v1.25, non-functional in v1.26+',
  cephfs: 'deprecated in v1.28, non-functional in v1.31+',
  rbd: 'deprecated in v1.28, non-functional in v1.31+',
};

/** Of new Pods; those that are there are written by programs. */
export function warnOfPod(pod: Draft<Pod>, old: Pod | undefined, warn: Warn): void {
  if (old === undefined) {
    warnOfHostname(pod.metadata?.name ?? '', "the Pod's hostname", warn);
    warnOfSpec(pod.spec ?? {}, pod.metadata, '', warn);
  }
}

interface Templated {
  metadata?: Draft<ObjectMeta>;
}

/** A workload that makes Pods of a template, when it is new and whenever its spec changes. */
export function warnOfTemplate<T extends Templated>(
  templateOf: (object: Draft<T>) => Draft<PodTemplateSpec> | undefined,
  options: { at?: string; namesPods?: boolean } = {},
): (object: Draft<T>, old: T | undefined, warn: Warn) => void {
  const { at = 'spec.template', namesPods = false } = options;
  return (object, old, warn) => {
    const { name = '', generation }: Draft<ObjectMeta> = object.metadata ?? {};
    if (old === undefined && namesPods) warnOfHostname(name, 'Pod names and hostnames', warn);
    const template = templateOf(object);
    if (template === undefined || (old !== undefined && generation === old.metadata?.generation)) return;
    warnOfSpec(template.spec ?? {}, template.metadata, `${at}.`, warn);
  };
}

function warnOfHostname(name: string, use: string, warn: Warn): void {
  const problem = labelProblem(name);
  if (name !== '' && problem !== '')
    warn(
      `metadata.name: this is used in ${use}, which can result in surprising behavior; a DNS label is recommended: [${problem}]`,
    );
}

function warnOfSpec(spec: Draft<PodSpec>, metadata: Draft<ObjectMeta> | undefined, at: string, warn: Warn): void {
  (spec.topologySpreadConstraints ?? []).forEach(({ labelSelector }, i) =>
    warnOfNoSelector(labelSelector, `${at}spec.topologySpreadConstraints[${i}]`, warn),
  );
  for (const [key, text] of Object.entries(deadAnnotations))
    if (metadata?.annotations?.[key] !== undefined) warn(`${at}metadata.annotations[${key}]: ${text}`);
  (spec.volumes ?? []).forEach((volume, i) => {
    for (const [source, text] of Object.entries(deadVolumes))
      if (source in volume) warn(`${at}spec.volumes[${i}].${source}: ${text}`);
  });
  warnOfRepeated(spec.hostAliases, 'ip', `${at}spec.hostAliases`, warn);
  warnOfRepeated(spec.imagePullSecrets, 'name', `${at}spec.imagePullSecrets`, warn);
  (spec.imagePullSecrets ?? []).forEach(({ name }, i) => {
    if (!name) warn(`${at}spec.imagePullSecrets[${i}].name: invalid empty name ""`);
  });
  warnOfFractions(spec.overhead, `${at}spec.overhead`, warn);
  const containers = visited(spec, `${at}spec`);
  for (const [container, path] of containers) {
    for (const part of ['limits', 'requests'] as const)
      warnOfFractions(container.resources?.[part], `${path}.resources.${part}`, warn);
    warnOfHiddenEnv(container, path, warn);
  }
  // Of a Pod, it is told where its annotations become fields.
  if (at !== '') warnOfProfileAnnotations(metadata?.annotations, spec, `${at}metadata.annotations`, warn);
  for (const volume of spec.volumes ?? []) warnOfOverlaps(volume, warn);
  warnOfPorts(containers, warn);
  if ((spec.terminationGracePeriodSeconds ?? 0) < 0)
    warn(`${at}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1`);
  warnOfAffinity(spec, `${at}spec.affinity`, warn);
}

function visited(spec: Draft<PodSpec>, at: string): Visited[] {
  return (['initContainers', 'containers', 'ephemeralContainers'] as const).flatMap((list) =>
    (spec[list] ?? []).map((container: Draft<Container>, i): Visited => [container, `${at}.${list}[${i}]`]),
  );
}

function warnOfNoSelector(selector: unknown, at: string, warn: Warn): void {
  if (selector === undefined) warn(`${at}.labelSelector: a null labelSelector results in matching no pod`);
}

function warnOfAffinity({ affinity }: Draft<PodSpec>, at: string, warn: Warn): void {
  for (const side of ['podAffinity', 'podAntiAffinity'] as const) {
    const { requiredDuringSchedulingIgnoredDuringExecution: required = [] } = affinity?.[side] ?? {};
    const { preferredDuringSchedulingIgnoredDuringExecution: preferred = [] } = affinity?.[side] ?? {};
    required.forEach(({ labelSelector }, i) =>
      warnOfNoSelector(labelSelector, `${at}.${side}.requiredDuringSchedulingIgnoredDuringExecution[${i}]`, warn),
    );
    preferred.forEach(({ podAffinityTerm }, i) =>
      warnOfNoSelector(
        podAffinityTerm?.labelSelector,
        `${at}.${side}.preferredDuringSchedulingIgnoredDuringExecution[${i}].podAffinityTerm`,
        warn,
      ),
    );
  }
}

function warnOfRepeated<K extends string>(
  list: readonly Partial<Record<K, string>>[] | undefined,
  key: K,
  at: string,
  warn: Warn,
): void {
  const seen = new Set<string>();
  (list ?? []).forEach((item, i) => {
    const value = item[key] ?? '';
    if (seen.has(value)) warn(`${at}[${i}].${key}: duplicate ${key} ${JSON.stringify(value)}`);
    seen.add(value);
  });
}

/** Bytes have no parts. */
function warnOfFractions(list: Record<string, string> | undefined, at: string, warn: Warn): void {
  for (const name of ['memory', 'ephemeral-storage']) {
    const value = list?.[name];
    if (isQuantity(value) && !isWholeNumber(value))
      warn(`${at}[${name}]: fractional byte value "${value}" is invalid, must be an integer`);
  }
}

/** A later value that does not build on the earlier one of its name. */
function warnOfHiddenEnv(container: Draft<Container>, at: string, warn: Warn): void {
  const seen = new Set<string>();
  (container.env ?? []).forEach(({ name = '', value = '', valueFrom }, i) => {
    const builds = valueFrom === undefined && value !== `$(${name})` && value.includes(`$(${name})`);
    if (seen.has(name) && !builds)
      warn(`${at}.env[${i}]: hides previous definition of "${name}", which may be dropped when using apply`);
    seen.add(name);
  });
}

function warnOfPorts(containers: readonly Visited[], warn: Warn): void {
  const ports = containers.flatMap(([{ ports: own = [] }, at]) =>
    own.map((port, i) => ({ port, at: `${at}.ports[${i}]` })),
  );
  for (const [i, { port, at }] of ports.entries()) {
    const { name = '', hostPort = 0, containerPort = 0, protocol = '', hostIP = '' } = port;
    if (hostIP !== '' && hostPort === 0)
      warn(
        `${at}: hostIP set without hostPort: {Name:${name} HostPort:0 ContainerPort:${containerPort} Protocol:${protocol} HostIP:${hostIP}}`,
      );
    for (const other of ports.slice(0, i)) {
      const relation = relationOf(port, other.port);
      if (relation !== undefined) warn(`${at}: ${relation} port definition with ${other.at}`);
    }
  }
  const named = new Map<string, string>();
  for (const { port, at } of ports) {
    if (!port.name) continue;
    const other = named.get(port.name);
    if (other === undefined) named.set(port.name, at);
    else
      warn(
        `${at}: duplicate port name "${port.name}" with ${other}, services and probes that select ports by name will use ${other}`,
      );
  }
}

function relationOf(one: Draft<ContainerPort>, other: Draft<ContainerPort>): string | undefined {
  if (one.containerPort !== other.containerPort || one.protocol !== other.protocol) return undefined;
  const [ip, otherIp] = [one.hostIP ?? '', other.hostIP ?? ''];
  const [port, otherPort] = [one.hostPort ?? 0, other.hostPort ?? 0];
  if (ip === otherIp && port === otherPort) return 'duplicate';
  if (port === 0 || otherPort === 0) return 'overlapping';
  return port === otherPort && (ip === '') !== (otherIp === '') ? 'dangerously ambiguous' : undefined;
}
