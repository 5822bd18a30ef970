/**
 * Pod security (Kubernetes, "Pod Security Standards" and "Pod Security Admission"): baseline and restricted, as the
 * namespace's labels demand.
 */
import type { Container, EphemeralContainer, PodSpec } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { isSafeSysctl } from '#base/sysctls.ts';
import type { RequestContext } from '../context.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { forbiddenBy } from '../object-errors.ts';

interface Finding {
  reason: string;
  detail: string;
}
type AnyContainer = Container | EphemeralContainer;
type Check = (pod: PodSpec, containers: readonly AnyContainer[]) => Finding | undefined;

const quoted = (names: readonly string[]): string => names.map((n) => JSON.stringify(n)).join(', ');
const subject = (names: readonly string[]): string => `container${names.length === 1 ? '' : 's'} ${quoted(names)}`;
const where = (containers: readonly AnyContainer[], test: (c: AnyContainer) => boolean): string[] =>
  containers.filter(test).map((c) => c.name);

const baselineCapabilities = new Set([
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'MKNOD',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
]);

const found = (names: readonly string[], reason: string, detail: string): Finding | undefined =>
  names.length === 0 ? undefined : { reason, detail };

const baseline: readonly Check[] = [
  (pod) => {
    const set = (['hostNetwork', 'hostPID', 'hostIPC'] as const).filter((f) => pod[f] === true);
    return found(set, 'host namespaces', set.map((f) => `${f}=true`).join(', '));
  },
  (_pod, cs) => {
    const n = where(cs, (c) => c.securityContext?.privileged === true);
    return found(n, 'privileged', `${subject(n)} must not set securityContext.privileged=true`);
  },
  (_pod, cs) => {
    const n = where(cs, (c) => (c.securityContext?.capabilities?.add ?? []).some((x) => !baselineCapabilities.has(x)));
    const extra = [
      ...new Set(
        cs.flatMap((c) => c.securityContext?.capabilities?.add ?? []).filter((x) => !baselineCapabilities.has(x)),
      ),
    ];
    return found(
      n,
      'non-default capabilities',
      `${subject(n)} must not include ${quoted(extra)} in securityContext.capabilities.add`,
    );
  },
  (pod) => {
    const n = (pod.volumes ?? []).filter((v) => v.hostPath).map((v) => v.name);
    return found(n, 'hostPath volumes', `volume${n.length === 1 ? '' : 's'} ${quoted(n)}`);
  },
  (_pod, cs) => {
    const n = where(cs, (c) => (c.ports ?? []).some((p) => p.hostPort));
    return found(
      n,
      'hostPort',
      `${subject(n)} use${n.length === 1 ? 's' : ''} hostPort${n.length === 1 ? '' : 's'} ${cs.flatMap((c) => (c.ports ?? []).map((p) => p.hostPort).filter(Boolean)).join(', ')}`,
    );
  },
  (_pod, cs) => {
    const n = where(cs, (c) => c.securityContext?.procMount !== undefined && c.securityContext.procMount !== 'Default');
    return found(n, 'procMount', `${subject(n)} must not set securityContext.procMount to "Unmasked"`);
  },
  (pod, cs) => {
    const n = where(cs, (c) => c.securityContext?.seccompProfile?.type === 'Unconfined');
    if (pod.securityContext?.seccompProfile?.type === 'Unconfined')
      return {
        reason: 'seccompProfile',
        detail: 'pod must not set securityContext.seccompProfile.type to "Unconfined"',
      };
    return found(n, 'seccompProfile', `${subject(n)} must not set securityContext.seccompProfile.type to "Unconfined"`);
  },
  (pod) => {
    const bad = (pod.securityContext?.sysctls ?? []).map((s) => s.name).filter((s) => !isSafeSysctl(s));
    return found(bad, 'forbidden sysctls', bad.join(', '));
  },
];

const restrictedVolumes = new Set([
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
  'image',
]);

const restricted: readonly Check[] = [
  (_pod, cs) => {
    const n = where(cs, (c) => c.securityContext?.allowPrivilegeEscalation !== false);
    return found(
      n,
      'allowPrivilegeEscalation != false',
      `${subject(n)} must set securityContext.allowPrivilegeEscalation=false`,
    );
  },
  (_pod, cs) => {
    const n = where(
      cs,
      (c) =>
        !(c.securityContext?.capabilities?.drop ?? []).includes('ALL') ||
        (c.securityContext?.capabilities?.add ?? []).some((x) => x !== 'NET_BIND_SERVICE'),
    );
    return found(n, 'unrestricted capabilities', `${subject(n)} must set securityContext.capabilities.drop=["ALL"]`);
  },
  (pod) => {
    const n = (pod.volumes ?? [])
      .filter((v) => !Object.keys(v).some((k) => restrictedVolumes.has(k)))
      .map((v) => v.name);
    return found(
      n,
      'restricted volume types',
      `volume${n.length === 1 ? '' : 's'} ${quoted(n)} use${n.length === 1 ? 's' : ''} restricted volume type`,
    );
  },
  (pod, cs) => {
    const n = where(cs, (c) => !(c.securityContext?.runAsNonRoot ?? pod.securityContext?.runAsNonRoot ?? false));
    return found(
      n,
      'runAsNonRoot != true',
      pod.securityContext?.runAsNonRoot === undefined && n.length === cs.length
        ? `pod or ${subject(n)} must set securityContext.runAsNonRoot=true`
        : `${subject(n)} must set securityContext.runAsNonRoot=true`,
    );
  },
  (pod, cs) => {
    const n = where(cs, (c) => c.securityContext?.runAsUser === 0);
    if (pod.securityContext?.runAsUser === 0) return { reason: 'runAsUser=0', detail: 'pod must not set runAsUser=0' };
    return found(n, 'runAsUser=0', `${subject(n)} must not set runAsUser=0`);
  },
  (pod, cs) => {
    const n = where(
      cs,
      (c) =>
        !['RuntimeDefault', 'Localhost'].includes(
          c.securityContext?.seccompProfile?.type ?? pod.securityContext?.seccompProfile?.type ?? '',
        ),
    );
    return found(
      n,
      'seccompProfile',
      `${pod.securityContext?.seccompProfile === undefined && n.length === cs.length ? 'pod or ' : ''}${subject(n)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"`,
    );
  },
];

function evaluate(level: string, spec: PodSpec): string[] {
  if (level === 'privileged') return [];
  const containers = [...(spec.initContainers ?? []), ...spec.containers, ...(spec.ephemeralContainers ?? [])];
  const checks = level === 'restricted' ? [...baseline.filter((_c, i) => i !== 2 && i !== 6), ...restricted] : baseline;
  return checks.flatMap((check) => {
    const f = check(spec, containers);
    return f === undefined ? [] : [`${f.reason} (${f.detail})`];
  });
}

const levels = new Set(['privileged', 'baseline', 'restricted']);
const label = 'pod-security.kubernetes.io/';

/** What an object makes Pods from, where it does. */
function templateOf(object: KubeObject): PodSpec | undefined {
  if (
    isOf(kinds.Deployment, object) ||
    isOf(kinds.ReplicaSet, object) ||
    isOf(kinds.StatefulSet, object) ||
    isOf(kinds.DaemonSet, object) ||
    isOf(kinds.Job, object) ||
    isOf(kinds.ReplicationController, object)
  )
    return object.spec?.template?.spec;
  if (isOf(kinds.CronJob, object)) return object.spec.jobTemplate.spec?.template.spec;
  return isOf(kinds.PodTemplate, object) ? object.template?.spec : undefined;
}

export async function admitPodSecurity(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { kind, server, info } = context;
  if (!kind.namespaced || (attributes.operation !== 'CREATE' && attributes.operation !== 'UPDATE')) return;
  const { object } = attributes;
  const isItself = isOf(kinds.Pod, object);
  if (attributes.subresource !== '' && !(isItself && attributes.subresource === 'ephemeralcontainers')) return;
  const spec = isItself ? object.spec : templateOf(object);
  if (!spec) return;
  const namespace = (await server.live.namespaces.current()).get('', info.namespace);
  if (namespace === undefined) return;
  const labels = namespace.metadata.labels ?? {};
  const version = (mode: string): string => labels[`${label}${mode}-version`] ?? 'latest';
  const enforce = labels[`${label}enforce`];
  if (isItself && enforce !== undefined && levels.has(enforce)) {
    context.audit?.annotate(`${label}enforce-policy`, `${enforce}:${version('enforce')}`);
    const problems = evaluate(enforce, spec);
    if (problems.length > 0)
      throw forbiddenBy(
        context,
        attributes.object.metadata.name ?? '',
        `violates PodSecurity "${enforce}:${version('enforce')}": ${problems.join(', ')}`,
      );
  }
  const audited = labels[`${label}audit`];
  if (context.audit !== undefined && audited !== undefined && levels.has(audited)) {
    const problems = evaluate(audited, spec);
    if (problems.length > 0)
      context.audit.annotate(
        `${label}audit-violations`,
        `would violate PodSecurity "${audited}:${version('audit')}": ${problems.join(', ')}`,
      );
  }
  const warn = labels[`${label}warn`];
  if (warn !== undefined && levels.has(warn) && warn !== 'privileged') {
    const problems = evaluate(warn, spec);
    if (problems.length > 0)
      context.warnings.push(`would violate PodSecurity "${warn}:${version('warn')}": ${problems.join(', ')}`);
  }
}
