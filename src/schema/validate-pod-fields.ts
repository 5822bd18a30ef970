/**
 * Validation of single parts of a Pod's spec: its name on the network, the host's namespaces, gates, files that
 * variables are read from.
 */
import type { HostAlias, PodSchedulingGate, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { ipProblem } from './ip-fields.ts';
import { dnsSearchCharsMax, dnsSearchesMax, nameserversMax } from './limits.ts';
import { subdomainProblem } from './name-forms.ts';

/** On the host's network a port is what it is. In a template it may be left open. */
export function validateHostPortsOfNetwork(
  spec: Draft<PodSpec>,
  at: string,
  isPod: boolean,
  errors: FieldErrors,
): void {
  if (spec.hostNetwork !== true) return;
  (spec.containers ?? []).forEach(({ ports }, i) =>
    (ports ?? []).forEach(({ hostPort = 0, containerPort = 0 }, j) => {
      if ((isPod || hostPort !== 0) && hostPort !== containerPort)
        errors.invalid(
          `${at}[${i}].ports[${j}].hostPort`,
          hostPort,
          'must match `containerPort` when `hostNetwork` is true',
        );
    }),
  );
}

/** Upstream writes two of these fields with a capital letter. */
export function validateHostUsers(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  if (spec.hostUsers !== false) return;
  const text = 'when `hostUsers` is false';
  if (spec.hostNetwork === true) errors.forbidden(`${at}.hostNetwork`, text);
  if (spec.hostPID === true) errors.forbidden(`${at}.HostPID`, text);
  if (spec.hostIPC === true) errors.forbidden(`${at}.HostIPC`, text);
  for (const list of ['initContainers', 'containers', 'ephemeralContainers'] as const)
    (spec[list] ?? []).forEach(({ volumeDevices }, i) => {
      if ((volumeDevices ?? []).length > 0) errors.forbidden(`${at}.${list}[${i}].volumeDevices`, text);
    });
}

/** Linux takes 64 bytes. */
const hostnameBytesMax = 64;

export function validateHostnameOverride(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const { hostnameOverride: name } = spec;
  if (name === undefined || name === null) return;
  const path = `${at}.hostnameOverride`;
  if (spec.setHostnameAsFQDN === true) errors.forbidden(path, 'may not be specified when setHostnameAsFQDN is true');
  if (spec.hostNetwork === true) errors.forbidden(path, 'may not be specified when hostNetwork is true');
  if (name.length > hostnameBytesMax) errors.tooLong(path, hostnameBytesMax);
  if (subdomainProblem(name) !== '') errors.invalid(path, name, subdomainProblem(name));
}

export function validateGates(gates: Draft<PodSchedulingGate>[] | undefined, at: string, errors: FieldErrors): void {
  const seen = new Set<string>();
  (gates ?? []).forEach(({ name = '' }, i) => {
    for (const problem of qualifiedNameProblems(name)) errors.invalid(`${at}[${i}]`, name, problem);
    if (seen.has(name)) errors.duplicate(`${at}[${i}]`, name);
    seen.add(name);
  });
}

const searchForm = /^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$/;
const searchMessage =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const subdomainCharsMax = 253;

export function validateDns({ dnsPolicy, dnsConfig }: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  if (dnsPolicy === 'None' && !dnsConfig) {
    errors.required(at, 'must provide `dnsConfig` when `dnsPolicy` is None');
    return;
  }
  const { nameservers = [], searches = [], options = [] } = dnsConfig ?? {};
  if (dnsPolicy === 'None' && nameservers.length === 0) {
    errors.required(`${at}.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None');
    return;
  }
  if (nameservers.length > nameserversMax)
    errors.invalid(`${at}.nameservers`, nameservers, `must not have more than ${nameserversMax} nameservers`);
  nameservers.forEach((address, i) => {
    if (ipProblem(address) !== '') errors.invalid(`${at}.nameservers[${i}]`, address, ipProblem(address));
  });
  if (searches.length > dnsSearchesMax)
    errors.invalid(`${at}.searches`, searches, `must not have more than ${dnsSearchesMax} search paths`);
  if (searches.join(' ').length > dnsSearchCharsMax)
    errors.invalid(
      `${at}.searches`,
      searches,
      `must not have more than ${dnsSearchCharsMax} characters (including spaces) in the search list`,
    );
  searches.forEach((search, i) => {
    const name = search === '.' ? 'root' : search.replace(/\.$/, '');
    if (name.length > subdomainCharsMax)
      errors.invalid(`${at}.searches[${i}]`, name, `must be no more than ${subdomainCharsMax} characters`);
    if (!searchForm.test(name)) errors.invalid(`${at}.searches[${i}]`, name, searchMessage);
  });
  options.forEach((option, i) => {
    if (!option.name) errors.required(`${at}.options[${i}]`, 'must not be empty');
  });
}

export function validateHostAliases(aliases: Draft<HostAlias>[] | undefined, at: string, errors: FieldErrors): void {
  (aliases ?? []).forEach(({ ip = '', hostnames }, i) => {
    if (ipProblem(ip) !== '') errors.invalid(`${at}[${i}].ip`, ip, ipProblem(ip));
    (hostnames ?? []).forEach((name, j) => {
      if (subdomainProblem(name) !== '') errors.invalid(`${at}[${i}].hostnames[${j}]`, name, subdomainProblem(name));
    });
  });
}

/** What a container writes for the variables of another is in an emptyDir. */
export function validateFileVolumes(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const volumes = new Map((spec.volumes ?? []).map((volume) => [volume.name ?? '', volume]));
  for (const list of ['initContainers', 'containers', 'ephemeralContainers'] as const)
    (spec[list] ?? []).forEach(({ env }, i) =>
      (env ?? []).forEach(({ valueFrom }, j) => {
        const { volumeName: name = '' } = valueFrom?.fileKeyRef ?? {};
        const path = `${at}.${list}[${i}].env[${j}].valueFrom.fileKeyRef.volumeName`;
        if (!valueFrom?.fileKeyRef) return;
        const volume = volumes.get(name);
        if (volume === undefined) errors.notFound(path, name);
        else if (!volume.emptyDir) errors.invalid(path, name, 'referenced volume must be of type emptyDir');
      }),
    );
}
