/**
 * From a Pod's container to the engine's `ContainerSpec`: command, user, security, ports, names. Pure; what lies on
 * disk for it is `container-files.ts`.
 * Rules: Kubernetes documentation, "Configure a Security Context for a Pod or Container", "DNS for Services and Pods".
 */
import type { Pod, PodSecurityContext, SecurityContext } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { ApiError } from '#base/errors.ts';
import type { ContainerSpec, ImageSummary, PortBinding, Security } from '#engine/engine.ts';
import { expandVariables } from './env.ts';
import type { ContainerFiles, DnsSettings } from './doors.ts';
import { hostnameBytesMax, logFileBytesMax, logFilesMax } from './limits.ts';
import {
  labelContainerName,
  labelContainerType,
  labelRestartCount,
  labelTermination,
  podLabels,
} from './pod-labels.ts';
import { containerResources, podCgroupParent } from './qos.ts';

export interface ContainerSpecInput {
  pod: Pod;
  container: AnyContainer;
  init: boolean;
  restartCount: number;
  image: ImageSummary;
  environment: Map<string, string>;
  files: ContainerFiles;
  sandboxId: string;
  /** An ephemeral container may see the processes of another one. */
  targetContainerId?: string;
  nodeMemoryBytes: number;
  cgroupRoot: string;
  dns: DnsSettings;
}

export function makeContainerSpec(input: ContainerSpecInput): ContainerSpec {
  const { pod, container, image, environment, files } = input;
  const lookup = (name: string): string | undefined => environment.get(name);
  const expand = (words: string[] | undefined): string[] | undefined =>
    words?.map((word) => expandVariables(word, lookup));
  const security = { ...containerSecurity(pod, container), seccomp: files.seccomp };
  const user = containerUser(pod, container, image);
  return {
    name: `k8s_${container.name}_${pod.metadata.name}_${pod.metadata.namespace}_${pod.metadata.uid}_${input.restartCount}`,
    owner: 'kubelet',
    image: container.image ?? '',
    imageId: image.id,
    ...(container.command === undefined || container.command.length === 0
      ? {}
      : { entrypoint: expand(container.command)! }),
    ...commandOf(container, expand),
    env: [...environment].map(([name, value]) => `${name}=${value}`),
    ...(container.workingDir === undefined || container.workingDir === '' ? {} : { workingDir: container.workingDir }),
    ...(user === undefined ? {} : { user }),
    groupAdd: [
      ...(pod.spec.securityContext?.supplementalGroups ?? []),
      ...(pod.spec.securityContext?.fsGroup === undefined ? [] : [pod.spec.securityContext.fsGroup]),
    ].map(String),
    ...(pod.spec.securityContext?.supplementalGroupsPolicy === 'Strict' ? { strictGroups: true } : {}),
    tty: container.tty === true,
    openStdin: container.stdin === true,
    stdinOnce: container.stdinOnce === true,
    labels: {
      ...podLabels(pod),
      [labelContainerName]: container.name,
      [labelContainerType]: input.init ? 'init' : 'container',
      [labelRestartCount]: String(input.restartCount),
      [labelTermination]: JSON.stringify({
        preStop: container.lifecycle?.preStop,
        graceSeconds: pod.spec.terminationGracePeriodSeconds ?? 30,
        ports: container.ports,
      }),
    },
    mounts: files.mounts,
    resources: containerResources(pod, container, input.nodeMemoryBytes),
    security,
    network: { type: 'sandbox', sandboxId: input.sandboxId },
    ...(input.targetContainerId !== undefined
      ? { pidMode: { type: 'container' as const, containerId: input.targetContainerId } }
      : pod.spec.hostPID === true
        ? { pidMode: { type: 'host' as const } }
        : {}),
    ...(pod.spec.hostIPC === true ? { ipcMode: { type: 'host' as const } } : {}),
    cgroupParent: podCgroupParent(pod, input.cgroupRoot),
    logPath: files.logPath,
    logMaxBytes: logFileBytesMax,
    logMaxFiles: logFilesMax,
    ...(container.lifecycle?.stopSignal === undefined ? {} : { stopSignal: container.lifecycle.stopSignal }),
    etcFiles: files.etcFiles,
    restartPolicy: { name: 'no' },
  };
}

/** `command` replaces both the image's entrypoint and its arguments; `args` alone replaces the arguments. */
function commandOf(
  container: AnyContainer,
  expand: (words: string[] | undefined) => string[] | undefined,
): { command?: string[] } {
  const args = expand(container.args);
  if (args !== undefined && args.length > 0) return { command: args };
  return container.command !== undefined && container.command.length > 0 ? { command: [] } : {};
}

type Shared = keyof SecurityContext & keyof PodSecurityContext;

/** What the container says of itself, or its Pod of all. */
export function setting<K extends Shared>(
  pod: Pod,
  container: AnyContainer,
  name: K,
): SecurityContext[K] | PodSecurityContext[K] | undefined {
  return container.securityContext?.[name] ?? pod.spec.securityContext?.[name];
}

function containerUser(pod: Pod, container: AnyContainer, image: ImageSummary): string | undefined {
  const uid: number | undefined = setting(pod, container, 'runAsUser');
  const gid: number | undefined = setting(pod, container, 'runAsGroup');
  if (setting(pod, container, 'runAsNonRoot') === true) {
    const name = image.config.user.split(':')[0]!;
    const imageUid = name === '' ? 0 : Number(name);
    if (uid === 0)
      throw new ApiError(
        'BadRequest',
        `container's runAsUser breaks non-root policy (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
      );
    if (uid === undefined && Number.isNaN(imageUid))
      throw new ApiError(
        'BadRequest',
        `container has runAsNonRoot and image has non-numeric user (${name}), cannot verify user is non-root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
      );
    if (uid === undefined && imageUid === 0)
      throw new ApiError(
        'BadRequest',
        `container has runAsNonRoot and image will run as root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
      );
  }
  if (uid !== undefined) return gid === undefined ? String(uid) : `${uid}:${gid}`;
  if (gid !== undefined) return `${image.config.user.split(':')[0] || '0'}:${gid}`;
  return undefined;
}

function containerSecurity(pod: Pod, container: AnyContainer): Security {
  const own = container.securityContext ?? {};
  const privileged = own.privileged === true;
  return {
    privileged,
    capAdd: own.capabilities?.add ?? [],
    capDrop: own.capabilities?.drop ?? [],
    readOnlyRoot: own.readOnlyRootFilesystem === true,
    noNewPrivileges: own.allowPrivilegeEscalation === false,
    ...apparmorOf(pod, container),
    ...(own.procMount === 'Unmasked' ? { maskedPaths: [], readonlyPaths: [] } : {}),
  };
}

function apparmorOf(pod: Pod, container: AnyContainer): Pick<Security, 'apparmor'> {
  const profile = setting(pod, container, 'appArmorProfile');
  if (profile?.type === 'Unconfined') return { apparmor: 'unconfined' };
  const path = profile?.type === 'Localhost' ? profile.localhostProfile : undefined;
  return path === undefined ? {} : { apparmor: path };
}

/** Ports of the host that lead to the Pod. With the host's network there is nothing to lead. */
export function hostPorts(pod: Pod): PortBinding[] {
  if (pod.spec.hostNetwork === true) return [];
  return [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])]
    .flatMap((container: AnyContainer) => container.ports ?? [])
    .filter(({ hostPort = 0 }) => hostPort > 0)
    .map((port) => ({
      hostIp: port.hostIP ?? '',
      hostPort: port.hostPort ?? 0,
      protocol: String(port.protocol ?? 'TCP').toLowerCase() as PortBinding['protocol'],
      containerPort: port.containerPort,
    }));
}

/** `hostname` of the spec or the Pod's name, cut to what a label may have. */
export function shortHostname(pod: Pod): string {
  return String(pod.spec.hostname ?? pod.metadata.name)
    .slice(0, 63)
    .replace(/[-.]+$/, '');
}

/**
 * What `hostname` says inside: an override, the full name where the Pod wants it (setHostnameAsFQDN), or the short one.
 * Throws when the full name is too long for Linux.
 */
export function podHostname(pod: Pod, domain: string): string {
  const { hostnameOverride, subdomain, setHostnameAsFQDN } = pod.spec;
  if (hostnameOverride) return String(hostnameOverride);
  if (setHostnameAsFQDN !== true || subdomain === undefined || subdomain === '') return shortHostname(pod);
  const name = `${shortHostname(pod)}.${subdomain}.${pod.metadata.namespace}.svc.${domain}`;
  if (name.length > hostnameBytesMax)
    throw new ApiError(
      'BadRequest',
      `Failed to construct FQDN from Pod hostname and cluster domain, FQDN ${name} is too long (${hostnameBytesMax} characters is the max, ${name.length} characters requested)`,
    );
  return name;
}
