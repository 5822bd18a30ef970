/** Validation of Endpoints, EndpointSlices. */
import type { Endpoints } from '#api/core.v1.ts';
import type { Endpoint, EndpointHints, EndpointSlice } from '#api/discovery.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { familyOf } from '#base/ip.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { endpointIpProblem } from './ip-fields.ts';
import { labelProblem, portProblem, subdomainProblem } from './name-forms.ts';
import { sameJson } from './validate-values.ts';

const addressTypes = ['FQDN', 'IPv4', 'IPv6'];
const addressesMax = 100;
const endpointsMax = 1_000;
const slicePortsMax = 20_000;
const hintsMax = 8;

export function validateEndpointSlice(o: Draft<EndpointSlice>, errors: FieldErrors, old?: EndpointSlice): void {
  if (!o.addressType) errors.required('addressType');
  else if (!addressTypes.includes(o.addressType ?? '')) errors.unsupported('addressType', o.addressType, addressTypes);
  if (old !== undefined && old.addressType !== o.addressType)
    errors.invalid('addressType', o.addressType, 'field is immutable');
  if (o.endpoints !== undefined && o.endpoints.length > endpointsMax)
    errors.tooMany('endpoints', o.endpoints.length, endpointsMax);
  // What is as it was has passed: slices are written often and change little.
  if (!sameJson(o.endpoints, old?.endpoints))
    (o.endpoints ?? []).forEach((endpoint, i) =>
      validateEndpoint(endpoint, o.addressType ?? '', `endpoints[${i}]`, errors),
    );
  const names = new Set<string>();
  if (o.ports !== undefined && o.ports.length > slicePortsMax) errors.tooMany('ports', o.ports.length, slicePortsMax);
  (o.ports ?? []).forEach((port, i) => {
    const name = port.name ?? '';
    if (name !== '' && labelProblem(name) !== '') errors.invalid(`ports[${i}].name`, name, labelProblem(name));
    if (names.has(name)) errors.duplicate(`ports[${i}].name`, name);
    names.add(name);
    if (port.protocol && !['SCTP', 'TCP', 'UDP'].includes(port.protocol ?? ''))
      errors.unsupported(`ports[${i}].protocol`, port.protocol, ['SCTP', 'TCP', 'UDP']);
    if (port.appProtocol)
      for (const problem of qualifiedNameProblems(port.appProtocol))
        errors.invalid(`ports[${i}].appProtocol`, port.appProtocol, problem);
  });
}

function validateEndpoint(endpoint: Draft<Endpoint>, type: string, at: string, errors: FieldErrors): void {
  const addresses: string[] = endpoint.addresses ?? [];
  if (addresses.length === 0) errors.required(`${at}.addresses`, 'must contain at least 1 address');
  if (addresses.length > addressesMax) errors.tooMany(`${at}.addresses`, addresses.length, addressesMax);
  addresses.forEach((address, i) => validateAddress(address, type, `${at}.addresses[${i}]`, errors));
  if (endpoint.hostname !== undefined && labelProblem(endpoint.hostname) !== '')
    errors.invalid(`${at}.hostname`, endpoint.hostname, labelProblem(endpoint.hostname));
  if (endpoint.nodeName !== undefined && subdomainProblem(endpoint.nodeName) !== '')
    errors.invalid(`${at}.nodeName`, endpoint.nodeName, subdomainProblem(endpoint.nodeName));
  validateHints(endpoint.hints, `${at}.hints`, errors);
}

/** Addresses of an unknown type are not looked at. */
function validateAddress(address: string, type: string, at: string, errors: FieldErrors): void {
  if (!addressTypes.includes(type)) return;
  if (type === 'FQDN' && address === '') errors.required(at);
  const problem = type === 'FQDN' ? fqdnProblem(address) : endpointIpProblem(address);
  const isOther = type !== 'FQDN' && familyOf(address) !== undefined && familyOf(address) !== type;
  // Upstream names the list, not the item.
  if (isOther) errors.invalid(at.replace(/\[\d+\]$/, ''), address, `must be an ${type} address`);
  if (problem !== '' && !(type === 'FQDN' && address === '')) errors.invalid(at, address, problem);
}

function fqdnProblem(address: string): string {
  const problem = subdomainProblem(address.replace(/\.$/, ''));
  return problem === '' && !address.slice(0, -1).includes('.')
    ? 'should be a domain with at least two segments separated by dots'
    : problem;
}

function validateHints(hints: Draft<EndpointHints> | undefined, at: string, errors: FieldErrors): void {
  const problemsOf = { forZones: labelValueProblems, forNodes: (name: string) => [subdomainProblem(name)] };
  for (const field of ['forZones', 'forNodes'] as const) {
    const list = hints?.[field] ?? [];
    if (list.length > hintsMax) {
      errors.tooMany(`${at}.${field}`, list.length, hintsMax);
      return;
    }
    const names = new Set<string>();
    list.forEach(({ name = '' }, i) => {
      const path = `${at}.${field}[${i}].name`;
      if (names.has(name)) errors.duplicate(path, name);
      names.add(name);
      for (const problem of problemsOf[field](name)) if (problem !== '') errors.invalid(path, name, problem);
    });
  }
}

export function validateEndpoints(o: Draft<Endpoints>, errors: FieldErrors, old?: Endpoints): void {
  const kept = new Set<string | undefined>(
    (old?.subsets ?? []).flatMap(({ addresses, notReadyAddresses }) =>
      [...(addresses ?? []), ...(notReadyAddresses ?? [])].map(({ ip }) => ip),
    ),
  );
  (o.subsets ?? []).forEach((subset, i) => {
    const at = `subsets[${i}]`;
    if ((subset.addresses ?? []).length + (subset.notReadyAddresses ?? []).length === 0)
      errors.required(at, 'must specify `addresses` or `notReadyAddresses`');
    for (const field of ['addresses', 'notReadyAddresses'] as const) {
      (subset[field] ?? []).forEach((a, j) => {
        const problem = kept.has(a.ip) ? '' : endpointIpProblem(a.ip);
        if (problem !== '') errors.invalid(`${at}.${field}[${j}].ip`, a.ip ?? '', problem);
        if (a.hostname && labelProblem(a.hostname) !== '')
          errors.invalid(`${at}.${field}[${j}].hostname`, a.hostname, labelProblem(a.hostname));
        if (a.nodeName !== undefined && subdomainProblem(a.nodeName) !== '')
          errors.invalid(`${at}.${field}[${j}].nodeName`, a.nodeName, subdomainProblem(a.nodeName));
      });
    }
    (subset.ports ?? []).forEach((port, j) => {
      if ((subset.ports ?? []).length > 1 && !port.name) errors.required(`${at}.ports[${j}].name`);
      if (port.name && labelProblem(port.name) !== '')
        errors.invalid(`${at}.ports[${j}].name`, port.name, labelProblem(port.name));
      if (portProblem(port.port) !== '')
        errors.invalid(`${at}.ports[${j}].port`, port.port ?? 0, portProblem(port.port));
      if (port.protocol && !['SCTP', 'TCP', 'UDP'].includes(port.protocol ?? ''))
        errors.unsupported(`${at}.ports[${j}].protocol`, port.protocol, ['SCTP', 'TCP', 'UDP']);
      if (port.appProtocol !== undefined)
        for (const problem of qualifiedNameProblems(port.appProtocol))
          errors.invalid(`${at}.ports[${j}].appProtocol`, port.appProtocol, problem);
    });
  });
}
