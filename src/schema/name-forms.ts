/**
 * Forms of names and their messages (Kubernetes, "Object Names and IDs"; RFC 1123, RFC 1035). Each returns what is
 * wrong, or ''.
 */
import { canonicalIpProblem } from './ip-fields.ts';

const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const label1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export function labelProblem(text: string): string {
  if (text.length > 63) return 'must be no more than 63 characters';
  if (label.test(text)) return '';
  return subdomain.test(text)
    ? 'must not contain dots'
    : "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
}

export function label1035Problem(text: string): string {
  if (text.length > 63) return 'must be no more than 63 characters';
  return label1035.test(text)
    ? ''
    : "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
}

export function subdomainProblem(text: string): string {
  if (text.length > 253) return 'must be no more than 253 characters';
  return subdomain.test(text)
    ? ''
    : "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
}

function pathSegmentProblem(text: string): string {
  if (text === '.' || text === '..') return `may not be '${text}'`;
  for (const part of ['/', '%']) if (text.includes(part)) return `may not contain '${part}'`;
  return '';
}

const configKey = /^[-._a-zA-Z0-9]+$/;
export function configKeyProblem(key: string): string {
  if (key.length > 253) return 'must be no more than 253 characters';
  if (!configKey.test(key))
    return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
  if (key === '.' || key === '..') return `must not be '${key}'`;
  return key.startsWith('..') ? "must not start with '..'" : '';
}

export const nameProblem = {
  /** The name of an IPAddress. */
  ip: canonicalIpProblem,
  subdomain: subdomainProblem,
  label: labelProblem,
  label1035: label1035Problem,
  path: pathSegmentProblem,
  any: () => '',
} as const;

const portName = /^[-a-z0-9]+$/;
export function portNameProblems(name: string): string[] {
  const out: string[] = [];
  if (name.length > 15) out.push('must be no more than 15 characters');
  if (!portName.test(name)) out.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  if (!/[a-z]/.test(name)) out.push('must contain at least one letter (a-z)');
  if (name.includes('--')) out.push('must not contain consecutive hyphens');
  if (name.startsWith('-') || name.endsWith('-')) out.push('must not begin or end with a hyphen');
  return out;
}

export const portProblem = (port: unknown): string =>
  typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65_535
    ? ''
    : 'must be between 1 and 65535, inclusive';
