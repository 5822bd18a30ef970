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

/** What was there already is not looked at again. */
export function validateServiceCidr(o: Draft<ServiceCIDR>, errors: FieldErrors, old?: ServiceCIDR): void {
  const at = 'spec.cidrs';
  const cidrs = o.spec?.cidrs ?? [];
  if (old !== undefined && !(old.spec?.cidrs?.length === 1 && cidrs.length === 2)) return;
  if (cidrs.length === 0) errors.required(at, 'at least one CIDR required');
  else if (cidrs.length > 2) errors.invalid(at, o.spec, 'may only hold up to 2 values');
  else {
    cidrs.forEach((cidr, i) => {
      const problem = canonicalCidrProblem(cidr);
      if (problem !== '') errors.invalid(`${at}[${i}]`, cidr, problem);
    });
    const [first, second] = cidrs.map((cidr) => parseCidr(cidr)?.address.family);
    if (first !== undefined && first === second)
      errors.invalid(
        at,
        cidrs,
        'may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64',
      );
  }
}

/** A range may be joined by one of the other family; nothing else changes. */
export function validateServiceCidrUpdate(o: Draft<ServiceCIDR>, old: ServiceCIDR, errors: FieldErrors): void {
  const at = 'spec.cidrs';
  const [now, was] = [o.spec?.cidrs ?? [], old.spec?.cidrs ?? []];
  const joined = was.length === 1 && now.length === 2;
  if (now.length === was.length || joined)
    was.forEach((cidr, i) => {
      if (cidr !== now[i]) errors.invalid(`${at}[${i}]`, now[i], 'field is immutable');
    });
  else errors.invalid(at, now, 'field is immutable');
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
