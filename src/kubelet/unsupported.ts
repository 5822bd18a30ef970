/**
 * What a Pod may ask for that this node cannot do. Where going on would be wrong (the Pod would run with other rights,
 * other devices or another system than it asked for) it is refused; where the field has no effect here the Pod runs,
 * and an event says so. Nothing is passed over in silence. Pure. What only one volume or variable needs is refused
 * where that is made (volumes.ts, env.ts).
 */
import { allContainers } from './containers.ts';
import type { Pod, SecurityContext } from '#api/core.v1.ts';
import type { Refusal } from './status.ts';

/** Refusals in the order in which they are looked for. */
export function unsupportedPart(pod: Pod): Refusal | undefined {
  const { spec } = pod;
  const refuse = (reason: string, message: string): Refusal => ({ reason, message: `Pod was rejected: ${message}` });
  if ((spec.os?.name ?? 'linux') !== 'linux')
    return refuse('PodOSNotSupported', "Failed to admit pod as the OS field doesn't match node OS");
  if (spec.hostUsers === false)
    return refuse(
      'UnexpectedAdmissionError',
      'user namespaces (hostUsers: false) are not supported by this node, and the Pod must not run without the one that it asks for',
    );
  const claims =
    (spec.resourceClaims ?? []).length > 0 ||
    allContainers(pod).some((container) => (container.resources?.claims ?? []).length > 0);
  if (claims)
    return refuse(
      'UnexpectedAdmissionError',
      'dynamic resource allocation (resourceClaims) is not supported by this node',
    );
  const block = allContainers(pod).find((container) => (container.volumeDevices ?? []).length > 0);
  if (block !== undefined)
    return refuse(
      'UnexpectedAdmissionError',
      `block volumes (volumeDevices of container "${block.name}") are not supported by this node`,
    );
  return undefined;
}

/** Sentences about fields that have no effect on this node. */
export function ignoredFields(pod: Pod): string[] {
  const out: string[] = [];
  const holders: [string, SecurityContext][] = [
    ['spec', pod.spec.securityContext ?? {}],
    ...allContainers(pod).map((container): [string, SecurityContext] => [
      `container "${container.name}"`,
      container.securityContext ?? {},
    ]),
  ];
  for (const [where, security] of holders) {
    for (const field of ['seLinuxOptions', 'windowsOptions'] as const)
      if (security[field] !== undefined)
        out.push(
          `${field} of ${where} has no effect: containers of this node have no labels of SELinux, and it runs Linux`,
        );
  }
  if (pod.spec.securityContext?.seLinuxChangePolicy !== undefined)
    out.push('seLinuxChangePolicy has no effect: volumes of this node have no labels of SELinux');
  if ((pod.spec.evictionResponders ?? []).length > 0)
    out.push('evictionResponders has no effect: nobody is asked before an eviction');
  for (const volume of pod.spec.volumes ?? []) {
    const source = volume.configMap ?? volume.secret ?? volume.downwardAPI ?? volume.projected;
    if (source?.defaultUser !== undefined)
      out.push(`defaultUser of volume "${volume.name}" has no effect: its files belong to root, or to the Pod's group`);
  }
  for (const container of allContainers(pod)) {
    if ((container.volumeMounts ?? []).some((mount) => mount.bindMountOptions !== undefined))
      out.push(`bindMountOptions of container "${container.name}" has no effect`);
  }
  if (pod.spec.schedulingGroup !== undefined) out.push('schedulingGroup has no effect: Pods are scheduled one by one');
  return out;
}
