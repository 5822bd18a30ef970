/**
 * Validating plug-ins: privilege escalation through RBAC objects, what kubelets may write, growing of claims, service
 * accounts' token secrets.
 */
import type { Node, PersistentVolumeClaim } from '#api/core.v1.ts';
import { parseCertificationRequest } from '#base/certificate-request.ts';
import { compareQuantities } from '#base/quantity.ts';
import { overlaps, parseSubnet } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { nodeUserPrefix } from '#base/node-identity.ts';
import { isOf } from '#base/objects.ts';
import { ApiError } from '#base/errors.ts';
import { isAllowed } from '../authz/authorizer-chain.ts';
import { nodeNameOf } from '../authz/node.ts';
import { missingPermissions, type Permission } from '../authz/permissions.ts';
import { rulesOf, visitRules } from '../authz/rbac.ts';
import type { PolicyRule } from '#api/rbac.v1.ts';
import type { RequestContext } from '../context.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { sameJson } from '#schema/validate-values.ts';
import { forbiddenBy } from '../object-errors.ts';

/** As upstream prints a rule in Go. */
function permissionText(permission: Permission): string {
  const list = (value: string): string => `[${JSON.stringify(value)}]`;
  if ('url' in permission) return `{NonResourceURLs:${list(permission.url)}, Verbs:${list(permission.verb)}}`;
  const { verb, group, resource, name } = permission;
  const names = name === undefined ? '' : `, ResourceNames:${list(name)}`;
  return `{APIGroups:${list(group)}, Resources:${list(resource)}${names}, Verbs:${list(verb)}}`;
}

/** Rules that the user does not have, in the namespace. */
async function missingRules(
  context: RequestContext,
  rules: readonly PolicyRule[],
  namespace: string,
): Promise<Permission[]> {
  const have: PolicyRule[] = [];
  await visitRules(context.server, context.user, namespace, (rule) => {
    have.push(rule);
    return false;
  });
  return rules.flatMap((rule) => [...missingPermissions(have, rule)]);
}

/** Nobody grants what they do not have, unless they hold `escalate` on roles or `bind` on the role. */
export async function admitRbacEscalation(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { kind, user, info, server } = context;
  const { object, operation } = attributes;
  if (operation === 'DELETE' || user.groups.includes('system:masters')) return;
  const namespace = kind.namespaced ? info.namespace : '';
  const ask = (verb: string, resource: string, name: string): Promise<boolean> =>
    isAllowed(server, {
      user,
      verb,
      isResource: true,
      group: kind.group,
      version: 'v1',
      resource,
      subresource: '',
      namespace,
      name,
      path: '',
    });
  let rules: readonly PolicyRule[];
  if (isOf(kinds.Role, object) || isOf(kinds.ClusterRole, object)) {
    if (await ask('escalate', kind.resource, object.metadata.name)) return;
    rules = object.rules ?? [];
  } else if (isOf(kinds.RoleBinding, object) || isOf(kinds.ClusterRoleBinding, object)) {
    const resource = object.roleRef.kind === 'ClusterRole' ? 'clusterroles' : 'roles';
    if (await ask('bind', resource, object.roleRef.name)) return;
    const found = await rulesOf(server, object.roleRef, namespace);
    if (found === undefined)
      throw new ApiError(
        'NotFound',
        `${resource}.rbac.authorization.k8s.io ${JSON.stringify(object.roleRef.name)} not found`,
        { name: object.roleRef.name, group: kind.group, kind: resource },
      );
    rules = found;
  } else return;
  const missing = await missingRules(context, rules, namespace);
  if (missing.length > 0)
    throw forbiddenBy(
      context,
      object.metadata.name,
      `user ${JSON.stringify(user.name)} (groups=[${user.groups.map((g) => JSON.stringify(g)).join(' ')}]) is attempting to grant RBAC permissions not currently held:\n${missing.map(permissionText).join('\n')}`,
    );
}

/** NodeRestriction: a kubelet writes its own Node and the Pods bound to it. */
export async function admitNodeRestriction(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const node = nodeNameOf(context.user);
  if (node === undefined || context.kind.group !== '') return;
  const { object, old, operation } = attributes;
  if (context.kind.resource === 'nodes' && object.metadata.name !== node)
    throw forbiddenBy(
      context,
      object.metadata.name ?? '',
      `node ${JSON.stringify(node)} is not allowed to modify node ${JSON.stringify(object.metadata.name)}`,
    );
  if (isOf(kinds.Node, object))
    admitOwnMarks(context, object, old !== undefined && isOf(kinds.Node, old) ? old : undefined);
  if (isOf(kinds.Node, object))
    await admitPodRange(context, object, old !== undefined && isOf(kinds.Node, old) ? old : undefined);
  if (!isOf(kinds.Pod, object)) return;
  const before = old !== undefined && isOf(kinds.Pod, old) ? old : object;
  const bound = (operation === 'CREATE' ? object : before).spec.nodeName;
  if (operation === 'CREATE' && object.metadata.annotations?.['kubernetes.io/config.mirror'] === undefined)
    throw forbiddenBy(
      context,
      object.metadata.name ?? '',
      `pod does not have "kubernetes.io/config.mirror" annotation, node ${JSON.stringify(node)} can only create mirror pods`,
    );
  if (bound !== node)
    throw forbiddenBy(
      context,
      object.metadata.name ?? '',
      `node ${JSON.stringify(node)} can only ${operation === 'DELETE' ? 'delete' : operation === 'CREATE' ? 'create' : 'update pod status for'} pods with spec.nodeName set to itself`,
    );
}

/** Labels in Kubernetes' own domains that a kubelet may give its node (upstream: "NodeRestriction"). */
const ownLabels = new Set([
  'kubernetes.io/hostname',
  'kubernetes.io/os',
  'kubernetes.io/arch',
  'beta.kubernetes.io/os',
  'beta.kubernetes.io/arch',
  'beta.kubernetes.io/instance-type',
  'node.kubernetes.io/instance-type',
  'failure-domain.beta.kubernetes.io/zone',
  'failure-domain.beta.kubernetes.io/region',
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
]);

function isOwnLabel(label: string): boolean {
  const domain = label.includes('/') ? label.slice(0, label.indexOf('/')) : '';
  const isIn = (top: string): boolean => domain === top || domain.endsWith(`.${top}`);
  if (isIn('node-restriction.kubernetes.io')) return false;
  if (!isIn('kubernetes.io') && !isIn('k8s.io')) return true;
  return ownLabels.has(label) || isIn('kubelet.kubernetes.io') || isIn('node.kubernetes.io');
}

/** A node does not mark itself as another kind of node, so that Pods that are meant for that kind come to it. */
function admitOwnMarks(context: RequestContext, node: Node, old: Node | undefined): void {
  const { name } = node.metadata;
  const self = JSON.stringify(context.user.name.slice(nodeUserPrefix.length));
  const [labels, before] = [node, old].map((each) => each?.metadata.labels ?? {});
  const changed = Object.keys({ ...labels, ...before }).filter((label) => labels?.[label] !== before?.[label]);
  const others = changed.filter((label) => !isOwnLabel(label)).sort();
  if (others.length > 0)
    throw forbiddenBy(
      context,
      name,
      old === undefined
        ? `node ${self} is not allowed to set the following labels: ${others.join(', ')}`
        : `is not allowed to modify labels: ${others.join(', ')}`,
    );
  if (old !== undefined && !sameJson(node.spec.taints ?? [], old.spec.taints ?? []))
    throw forbiddenBy(context, name, `node ${self} is not allowed to modify taints`);
}

/** A node brings no Pod range that another one has: packets for the other's Pods would go to it. */
async function admitPodRange(context: RequestContext, node: Node, old: Node | undefined): Promise<void> {
  const range = node.spec.podCIDR;
  const subnet = parseSubnet(range);
  if (subnet === undefined || range === old?.spec.podCIDR) return;
  const all = (await context.server.live.nodes.current()).in();
  const other = all.find(({ metadata, spec }) => {
    const its = metadata.name === node.metadata.name ? undefined : parseSubnet(spec.podCIDR);
    return its !== undefined && overlaps(its, subnet);
  });
  if (other !== undefined)
    throw forbiddenBy(context, node.metadata.name, `spec.podCIDR ${range} is of node ${other.metadata.name}`);
}

export async function admitClaimResize(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { object, old, operation, subresource } = attributes;
  if (operation !== 'UPDATE' || subresource !== '' || old === undefined) return;
  if (!isOf(kinds.PersistentVolumeClaim, object) || !isOf(kinds.PersistentVolumeClaim, old)) return;
  const size = ({ spec }: PersistentVolumeClaim): string | undefined => spec.resources?.requests?.storage;
  const [now, was] = [size(object), size(old)];
  if (now === undefined || was === undefined || compareQuantities(now, was) === 0) return;
  const { name } = object.metadata;
  if (compareQuantities(now, was) < 0) throw forbiddenBy(context, name, 'field can not be less than previous value');
  if (old.status?.phase !== 'Bound')
    throw forbiddenBy(context, name, 'Only bound persistent volume claims can be expanded');
  const className = object.spec.storageClassName;
  const found = className ? (await context.server.live.storageClasses.current()).get('', className) : undefined;
  if (found?.allowVolumeExpansion !== true)
    throw forbiddenBy(
      context,
      name,
      'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize',
    );
}

/** One PriorityClass at most is the default of all Pods. */
export async function admitGlobalDefault(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { object, operation } = attributes;
  if (operation === 'DELETE' || !isOf(kinds.PriorityClass, object) || object.globalDefault !== true) return;
  const { name } = object.metadata;
  const other = (await context.server.live.priorityClasses.current()).in().find((item) => item.metadata.name !== name);
  if (other !== undefined)
    throw forbiddenBy(
      context,
      name,
      `PriorityClass ${other.metadata.name} is already marked as default. Only one default can exist`,
    );
}

/** Whether the user may do this for the signer, or for all of the signer's domain. */
export async function mayFor({ server, user }: RequestContext, verb: string, signer: string): Promise<boolean> {
  const may = (name: string): Promise<boolean> =>
    isAllowed(server, {
      user,
      verb,
      isResource: true,
      group: 'certificates.k8s.io',
      version: 'v1',
      resource: 'signers',
      subresource: '',
      namespace: '',
      name,
      path: '',
    });
  return (await may(signer)) || may(`${signer.split('/')[0]}/*`);
}

const clientSigner = 'kubernetes.io/kube-apiserver-client';

/**
 * Who may have requests approved and signed is said for each signer; nobody becomes `system:masters` by a certificate
 * (upstream: CertificateApproval, CertificateSigning, CertificateSubjectRestriction).
 */
export async function admitCertificates(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { object, old, operation, subresource } = attributes;
  if (!isOf(kinds.CertificateSigningRequest, object)) return;
  const before = old !== undefined && isOf(kinds.CertificateSigningRequest, old) ? old.status : undefined;
  const signer = object.spec.signerName;
  if (operation === 'CREATE' && signer === clientSigner) {
    const { organizations } = parseCertificationRequest(Buffer.from(object.spec.request, 'base64').toString());
    if (organizations.includes('system:masters'))
      throw forbiddenBy(
        context,
        object.metadata.name,
        `use of ${clientSigner} signer with system:masters group is not allowed`,
      );
  }
  if (operation !== 'UPDATE') return;
  const verb =
    subresource === 'approval'
      ? 'approve'
      : subresource === 'status' && object.status?.certificate !== before?.certificate
        ? 'sign'
        : undefined;
  if (verb === undefined) return;
  if (!(await mayFor(context, verb, signer)))
    throw forbiddenBy(
      context,
      object.metadata.name,
      `user not permitted to ${verb} requests with signerName ${JSON.stringify(signer)}`,
    );
}
