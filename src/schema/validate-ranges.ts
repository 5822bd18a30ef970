/**
 * The ranges that Services get their addresses from, and the addresses that are taken (Kubernetes, "ServiceCIDR" and
 * "IPAddress"). These kinds came when addresses were strict already, so theirs are canonical, too.
 */
import type { Draft } from '#api/manifest.ts';
import type { IPAddress, ServiceCIDR } from '#api/networking.v1.ts';
import { parseCidr } from '#base/ip.ts';
import type { FieldErrors } from './field-errors.ts';
import { canonicalCidrProblem } from './ip-fields.ts';
import { subdomainProblem } from './name-forms.ts';
import { validatePathPart } from './validate-classes.ts';
import { unchanged } from './validate-values.ts';

export function validateServiceCidr(o: Draft<ServiceCIDR>, errors: FieldErrors): void {
  const at = 'spec.cidrs';
  const cidrs = o.spec?.cidrs ?? [];
  if (cidrs.length === 0) errors.invalid(at, o.spec, 'at least one CIDR required');
  else if (cidrs.length > 2) errors.invalid(at, o.spec, 'may only hold up to 2 values');
  else if (cidrs.length === 2 && !isDualStack(cidrs))
    errors.invalid(
      at,
      o.spec,
      'may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96',
    );
  else
    cidrs.forEach((cidr, i) => {
      const problem = canonicalCidrProblem(cidr);
      if (problem !== '') errors.invalid(`${at}[${i}]`, cidr, problem);
    });
}

function isDualStack(cidrs: readonly string[]): boolean {
  const families = cidrs.map((cidr) => parseCidr(cidr)?.address.family);
  return families.includes('IPv4') && families.includes('IPv6');
}

/** Its own name is the address: `nameForm`. */
export function validateIpAddress(o: Draft<IPAddress>, errors: FieldErrors): void {
  const parent = o.spec?.parentRef;
  const at = 'spec.parentRef';
  if (parent === undefined) {
    errors.required(at);
    return;
  }
  if (parent.group && subdomainProblem(parent.group) !== '')
    errors.invalid(`${at}.group`, parent.group, subdomainProblem(parent.group));
  for (const field of ['resource', 'name'] as const) validatePathPart(parent[field], `${at}.${field}`, errors);
  if (parent.namespace) validatePathPart(parent.namespace, `${at}.namespace`, errors);
}

export function validateIpAddressUpdate(o: Draft<IPAddress>, old: IPAddress, errors: FieldErrors): void {
  unchanged(o.spec?.parentRef, old.spec.parentRef, 'spec.parentRef', errors);
}
