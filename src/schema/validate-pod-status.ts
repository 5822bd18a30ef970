/** Validation of a Pod's status: conditions and addresses, as its node writes them. */
import type { Pod, PodStatus } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { familyOf } from '#base/ip.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { ipProblem } from './ip-fields.ts';
import { subdomainProblem } from './name-forms.ts';
import { unchanged } from './validate-values.ts';

const systemConditions = new Set(['Initialized', 'PodScheduled', 'Ready']);

export function validatePodStatus(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const status: Draft<PodStatus> = pod.status ?? {};
  (status.conditions ?? []).forEach(({ type = '', observedGeneration = 0 }, i) => {
    if (observedGeneration < 0)
      errors.invalid(
        `status.conditions[${i}].observedGeneration`,
        observedGeneration,
        'must be a non-negative integer',
      );
    if (!systemConditions.has(type))
      for (const problem of qualifiedNameProblems(type)) errors.invalid(`status.conditions[${i}].Type`, type, problem);
  });
  const nominated = status.nominatedNodeName ?? '';
  if (nominated !== '' && nominated !== (old.status?.nominatedNodeName ?? '')) {
    if (subdomainProblem(nominated) !== '')
      errors.invalid('status.nominatedNodeName', nominated, subdomainProblem(nominated));
    if (old.spec.nodeName)
      errors.forbidden('status.nominatedNodeName', 'may not be set on pods that are already bound to a node');
  }
  if ((status.observedGeneration ?? 0) < 0)
    errors.invalid('status.observedGeneration', status.observedGeneration, 'must be a non-negative integer');
  unchanged(status.qosClass, old.status?.qosClass, 'status.qosClass', errors);
  validateAddresses(status, old.status, errors);
}

/** The first of several addresses is the one that has a field of its own; there is one of each family. */
function validateAddresses(status: Draft<PodStatus>, old: PodStatus | undefined, errors: FieldErrors): void {
  for (const [list, single] of [
    ['podIPs', 'podIP'],
    ['hostIPs', 'hostIP'],
  ] as const) {
    const ips = (status[list] ?? []).map(({ ip }) => ip ?? '');
    const known = new Set((old?.[list] ?? []).map(({ ip }) => ip));
    const first = status[single] ?? '';
    if (list === 'podIPs' && (first !== '') !== ips.length > 0)
      errors.invalid('status.podIPs', status.podIPs, 'podIP and podIPs must either both be set or both be unset');
    else if (ips.length > 0 && first !== ips[0])
      errors.invalid(`status.${list}[0].ip`, ips[0], `must be equal to \`${single}\``);
    ips.forEach((ip, i) => {
      if (!known.has(ip) && ipProblem(ip) !== '') errors.invalid(`status.${list}[${i}]`, ip, ipProblem(ip));
    });
    if (ips.length < 2) continue;
    const families = ips.map(familyOf);
    if (families.includes(undefined))
      errors.internal(`status.${list}`, `failed to check for dual stack with error:invalid IP`);
    if (ips.length > 2 || families[0] === families[1] || families.includes(undefined))
      errors.invalid(`status.${list}`, status[list], 'may specify no more than one IP for each IP family');
  }
}
