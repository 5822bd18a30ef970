/**
 * Defaulting of Pods and what contains them, as the API reference documents it. A default is set where the field is
 * absent, never where it is explicitly empty in a way that means something. Functions change the object in place;
 * callers own it.
 */
import type {
  AzureDiskVolumeSource,
  Container,
  DownwardAPIVolumeFile,
  HTTPGetAction,
  PersistentVolumeClaimSpec,
  Pod,
  PodSpec,
  PodTemplateSpec,
  Probe,
  Volume,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import { canonicalResource, isQuantity } from '#base/quantity.ts';

/** Sets `object[field]` where it is absent or null. */
export function setDefault<T, K extends keyof T>(object: T, field: K, value: T[K]): void {
  if (object[field] === undefined || object[field] === null) object[field] = value;
}

/** As setDefault, and also where the field is empty text: a Go string without a pointer. */
export function setDefaultText<T, K extends keyof T>(object: T, field: K, value: T[K] & string): void {
  if (object[field] === undefined || object[field] === null || object[field] === '') object[field] = value;
}

function defaultProbe(probe: Draft<Probe> | undefined): void {
  if (probe === undefined) return;
  for (const [field, value] of [
    ['timeoutSeconds', 1],
    ['periodSeconds', 10],
    ['successThreshold', 1],
    ['failureThreshold', 3],
  ] as const)
    if (!probe[field]) probe[field] = value;
  defaultHandler(probe);
  if (probe.grpc !== undefined) setDefault(probe.grpc, 'service', '');
}

function defaultHandler(handler: { httpGet?: Draft<HTTPGetAction> } | undefined): void {
  if (!handler?.httpGet) return;
  setDefaultText(handler.httpGet, 'path', '/');
  setDefaultText(handler.httpGet, 'scheme', 'HTTP');
}

export function defaultQuantities(list: Record<string, string> | undefined): void {
  if (list === undefined) return;
  for (const [name, value] of Object.entries(list)) if (isQuantity(value)) list[name] = canonicalResource(value);
}

/** A reference (OCI distribution, "Pulling manifests"): registry, path in small letters, tag. */
const imageForm =
  /^(([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(:\d+)?\/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*(:\w[\w.-]{0,127})?$/;

/** `:latest` and no tag at all mean Always. */
function defaultPullPolicy(image: string | undefined): string {
  if (image === undefined || image.includes('@') || !imageForm.test(image)) return 'IfNotPresent';
  const tag = /:([^/:]+)$/.exec(image)?.[1];
  return tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent';
}

function defaultContainer(container: Draft<Container>): void {
  setDefaultText(container, 'imagePullPolicy', defaultPullPolicy(container.image));
  setDefaultText(container, 'terminationMessagePath', '/dev/termination-log');
  setDefaultText(container, 'terminationMessagePolicy', 'File');
  const resources = (container.resources ??= {});
  defaultQuantities(resources.limits);
  defaultQuantities(resources.requests);
  for (const port of container.ports ?? []) {
    setDefaultText(port, 'protocol', 'TCP');
  }
  for (const env of container.env ?? [])
    if (env.valueFrom?.fieldRef) setDefaultText(env.valueFrom.fieldRef, 'apiVersion', 'v1');
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const) defaultProbe(container[probe]);
  defaultHandler(container.lifecycle?.postStart);
  defaultHandler(container.lifecycle?.preStop);
  if (container.securityContext?.procMount === '') delete container.securityContext.procMount;
}

function defaultFieldRefs(items: Draft<DownwardAPIVolumeFile>[] | undefined): void {
  for (const item of items ?? []) if (item.fieldRef) setDefaultText(item.fieldRef, 'apiVersion', 'v1');
}

function defaultVolume(volume: Draft<Volume>): void {
  const sources = Object.keys(volume).filter((k) => k !== 'name');
  if (sources.length === 0) volume.emptyDir = {};
  if (volume.configMap) setDefault(volume.configMap, 'defaultMode', 0o644);
  if (volume.secret) setDefault(volume.secret, 'defaultMode', 0o644);
  if (volume.hostPath) setDefault(volume.hostPath, 'type', '');
  if (volume.downwardAPI) {
    setDefault(volume.downwardAPI, 'defaultMode', 0o644);
    defaultFieldRefs(volume.downwardAPI.items);
  }
  if (volume.projected) {
    setDefault(volume.projected, 'defaultMode', 0o644);
    for (const source of volume.projected.sources ?? []) {
      defaultFieldRefs(source.downwardAPI?.items);
      if (source.serviceAccountToken) setDefault(source.serviceAccountToken, 'expirationSeconds', 3600);
    }
  }
  if (volume.image) setDefaultText(volume.image, 'pullPolicy', defaultPullPolicy(volume.image.reference));
  if (volume.ephemeral?.volumeClaimTemplate) defaultClaim(volume.ephemeral.volumeClaimTemplate);
  if (volume.iscsi) setDefaultText(volume.iscsi, 'iscsiInterface', 'default');
  if (volume.rbd) defaultRbd(volume.rbd);
  if (volume.azureDisk) defaultAzureDisk(volume.azureDisk);
  if (volume.scaleIO) defaultScaleIo(volume.scaleIO);
}

export function defaultRbd(source: { pool?: string; user?: string; keyring?: string }): void {
  setDefaultText(source, 'pool', 'rbd');
  setDefaultText(source, 'user', 'admin');
  setDefaultText(source, 'keyring', '/etc/ceph/keyring');
}

export function defaultAzureDisk(source: Draft<AzureDiskVolumeSource>): void {
  setDefault(source, 'cachingMode', 'ReadWrite');
  setDefault(source, 'kind', 'Shared');
  setDefault(source, 'fsType', 'ext4');
  setDefault(source, 'readOnly', false);
}

export function defaultScaleIo(source: { storageMode?: string; fsType?: string }): void {
  setDefaultText(source, 'storageMode', 'ThinProvisioned');
  setDefaultText(source, 'fsType', 'xfs');
}

export function defaultClaim(claim: { spec?: Draft<PersistentVolumeClaimSpec> }): void {
  const spec = (claim.spec ??= {});
  setDefaultText(spec, 'volumeMode', 'Filesystem');
  defaultQuantities(spec.resources?.requests);
  defaultQuantities(spec.resources?.limits);
}

function defaultPodSpec(spec: Draft<PodSpec>): void {
  setDefaultText(spec, 'dnsPolicy', 'ClusterFirst');
  setDefaultText(spec, 'restartPolicy', 'Always');
  setDefault(spec, 'terminationGracePeriodSeconds', 30);
  setDefault(spec, 'securityContext', {});
  setDefaultText(spec, 'schedulerName', 'default-scheduler');
  for (const list of ['containers', 'initContainers', 'ephemeralContainers'] as const)
    for (const container of spec[list] ?? []) defaultContainer(container);
  for (const volume of spec.volumes ?? []) defaultVolume(volume);
  // Two names of one field: the newer one counts.
  const account = spec.serviceAccountName || spec.serviceAccount;
  if (account) Object.assign(spec, { serviceAccountName: account, serviceAccount: account });
  for (const constraint of spec.topologySpreadConstraints ?? []) {
    setDefaultText(constraint, 'whenUnsatisfiable', 'DoNotSchedule');
  }
  defaultQuantities(spec.overhead);
}

/**
 * An object that has no labels of its own gets those of its Pods: the very map, as upstream. So a Job gets the labels,
 * too, that its template gets later.
 */
export function labelAs(object: { metadata?: Draft<ObjectMeta> }, labels: Record<string, string> | undefined): void {
  const metadata = (object.metadata ??= {});
  if (labels !== undefined && Object.keys(metadata.labels ?? {}).length === 0) metadata.labels = labels;
}

/** On the node's own network a port is what it is. */
function defaultHostPorts(spec: Draft<PodSpec>): void {
  for (const list of ['containers', 'initContainers'] as const)
    for (const port of (spec[list] ?? []).flatMap(({ ports = [] }) => ports))
      if (!port.hostPort && port.containerPort !== undefined) port.hostPort = port.containerPort;
}

/** A Pod itself, not a template: these defaults would otherwise change templates that were stored before. */
export function defaultPod(pod: Draft<Pod>): void {
  const spec = (pod.spec ??= {});
  defaultPodSpec(spec);
  for (const { resources } of [...(spec.containers ?? []), ...(spec.initContainers ?? [])])
    if (resources?.limits)
      // A limit without a request is also the request.
      for (const [name, value] of Object.entries(resources.limits))
        setDefault((resources.requests ??= {}), name, value);
  setDefault(spec, 'enableServiceLinks', true);
  if (spec.hostNetwork === true) defaultHostPorts(spec);
  setDefaultText((pod.status ??= {}), 'phase', 'Pending');
}

export function defaultTemplate(template: Draft<PodTemplateSpec> | undefined): void {
  if (template === undefined) return;
  template.metadata ??= {};
  // A null, which Go's clients write, says nothing.
  if (template.metadata.creationTimestamp == null) delete template.metadata.creationTimestamp;
  defaultPodSpec((template.spec ??= {}));
}
