/** Nodes of the core group, v1. */
import type { Node, NodeSpec, NodeStatus } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import { defaultQuantities, setDefault } from '../defaults.ts';
import {
  ageColumn,
  column,
  columns,
  connectSubresource,
  defineKind,
  orNone,
  proxyVerbs,
  statusSubresource,
} from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateNode, validateNodeUpdate, warnOfNode } from '../validate-node.ts';

const nodeReady = (node: Node): string => {
  const ready = (node.status?.conditions ?? []).find((c) => c.type === 'Ready');
  const text = ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady';
  return node.spec?.unschedulable === true ? `${text},SchedulingDisabled` : text;
};

function nodeRoles(node: Node): string {
  const roles = new Set<string>();
  for (const [key, value] of Object.entries(node.metadata?.labels ?? {})) {
    if (key.startsWith('node-role.kubernetes.io/')) {
      const role = key.slice(24);
      if (role !== '') roles.add(role);
    } else if (key === 'kubernetes.io/role' && value !== '') roles.add(value);
  }
  return orNone([...roles].sort().join(','));
}

const nodeAddress =
  (type: string) =>
  (node: Node): string =>
    (node.status?.addresses ?? []).find((a) => a.type === type)?.address ?? '<none>';

function defaultNodeStatus(status: Draft<NodeStatus>): void {
  defaultQuantities(status.capacity);
  if (status.capacity !== undefined) setDefault(status, 'allocatable', status.capacity);
  defaultQuantities(status.allocatable);
}

/** One range or a list of them: the first of the list is the one, which holds where the two differ. */
function settlePodRanges(spec: Draft<NodeSpec>): void {
  if (spec.podCIDR && spec.podCIDRs?.[0] !== spec.podCIDR) spec.podCIDRs = [spec.podCIDR];
  const [first] = spec.podCIDRs ?? [];
  if (first) spec.podCIDR = first;
}

/** The kernel, with the architecture that it is for. */
function kernelOf({ status }: Node): string {
  const { kernelVersion, architecture } = status?.nodeInfo ?? {};
  const kernel = kernelVersion || '<unknown>';
  return architecture ? `${kernel} (${architecture})` : kernel;
}

export const nodes = defineKind(kinds.Node, {
  shortNames: ['no'],
  subresources: { status: statusSubresource, proxy: connectSubresource('NodeProxyOptions', proxyVerbs) },
  selectableFields: { 'spec.unschedulable': (o) => String(o.spec?.unschedulable === true) },
  columns: columns<Node>(
    column('Status', nodeReady),
    column('Roles', nodeRoles),
    ageColumn,
    column('Version', (o) => o.status?.nodeInfo?.kubeletVersion),
    column('Internal-IP', nodeAddress('InternalIP'), { wide: true }),
    column('External-IP', nodeAddress('ExternalIP'), { wide: true }),
    column('OS-Image', (o) => o.status?.nodeInfo?.osImage || '<unknown>', { wide: true }),
    column('Kernel-Version', kernelOf, { wide: true }),
    column('Container-Runtime', (o) => o.status?.nodeInfo?.containerRuntimeVersion || '<unknown>', { wide: true }),
  ),
  defaults(o) {
    o.spec ??= {};
    settlePodRanges(o.spec);
    o.status ??= {};
    defaultNodeStatus(o.status);
  },
  defaultStatus: defaultNodeStatus,
  prepareUpdate: resetStatus,
  validate: validateNode,
  validateUpdate: validateNodeUpdate,
  validateStatus: validateNodeUpdate,
  warn: warnOfNode,
});
