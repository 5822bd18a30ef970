/**
 * Image names. Grammar and error texts are those of the distribution project's `reference` grammar as docker uses it:
 * `busybox` means
 * `docker.io/library/busybox`, a first component with a dot, a colon, or `localhost` is a domain, and 64 hexadecimal
 * digits alone are never a name (they would hide an image id).
 *
 * Words. *canonical* `docker.io/library/busybox:latest`; *familiar* `busybox:latest`, what docker prints.
 */
import { ApiError } from './errors.ts';
import { referenceNameMax } from './limits.ts';

export interface Reference {
  /** `docker.io`, `127.0.0.1:5000`, … */
  domain: string;
  /** Repository path: `library/busybox`. */
  path: string;
  tag?: string;
  /** `sha256:…` */
  digest?: string;
}

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const domainLabel = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domainPattern = `(?:${domainLabel}(?:\\.${domainLabel})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?`;
const tagPattern = '[\\w][\\w.-]{0,127}';
const digestPattern = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}';
const whole = new RegExp(
  `^((?:${domainPattern}/)?${component}(?:/${component})*)(?::(${tagPattern}))?(?:@(${digestPattern}))?$`,
);
const tagOnly = new RegExp(`^${tagPattern}$`);
const hexId = /^[a-f0-9]{64}$/;
const digestLengths: Record<string, number> = { sha256: 64, sha384: 96, sha512: 128 };

const invalid = (detail = ''): ApiError => new ApiError('BadRequest', `invalid reference format${detail}`);

function splitDomain(name: string): [string, string] {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isDomain = slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first.toLowerCase() !== first);
  const [domain, rest] = isDomain
    ? [first === 'index.docker.io' ? 'docker.io' : first, name.slice(slash + 1)]
    : ['docker.io', name];
  return [domain, domain === 'docker.io' && !rest.includes('/') ? `library/${rest}` : rest];
}

/** Parses and normalises; does not add a tag. Throws ApiError BadRequest with docker's texts. */
export function parseReference(text: string): Reference {
  if (hexId.test(text))
    throw new ApiError('BadRequest', `invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  const [domain, remainder] = splitDomain(text);
  const colon = remainder.indexOf(':');
  const remote = colon >= 0 ? remainder.slice(0, colon) : remainder;
  if (remote.toLowerCase() !== remote) throw invalid(`: repository name (${remote}) must be lowercase`);
  const match = whole.exec(`${domain}/${remainder}`);
  if (match === null) throw invalid();
  const [, name, tag, digest] = match;
  if (name === undefined || name.length > referenceNameMax)
    throw new ApiError('BadRequest', `repository name must not be more than ${referenceNameMax} characters`);
  if (digest !== undefined) {
    const [algorithm = '', hex = ''] = digest.split(':');
    const wanted = digestLengths[algorithm];
    if (wanted === undefined) throw new ApiError('BadRequest', 'unsupported digest algorithm');
    if (hex.length !== wanted || hex !== hex.toLowerCase())
      throw new ApiError('BadRequest', 'invalid checksum digest length');
  }
  return {
    domain,
    path: name.slice(domain.length + 1),
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

export function isTag(text: string): boolean {
  return tagOnly.test(text);
}
/** A repository path of the distribution specification. */
export function isRepositoryPath(text: string): boolean {
  return text.length <= referenceNameMax && new RegExp(`^${component}(?:/${component})*$`).test(text);
}
export function isDigest(text: string): boolean {
  const [algorithm = '', hex, rest] = text.split(':');
  return rest === undefined && hex !== undefined && digestLengths[algorithm] === hex.length && /^[0-9a-f]+$/.test(hex);
}

/** `latest` where neither tag nor digest is given. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: 'latest' } : reference;
}

/** `docker.io/library/busybox` */
export function canonicalRepository(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** `busybox` */
export function familiarRepository(reference: Reference): string {
  if (reference.domain !== 'docker.io') return canonicalRepository(reference);
  return /^library\/[^/]+$/.test(reference.path) ? reference.path.slice('library/'.length) : reference.path;
}

function suffix(reference: Reference): string {
  return `${reference.tag === undefined ? '' : `:${reference.tag}`}${reference.digest === undefined ? '' : `@${reference.digest}`}`;
}

/** `docker.io/library/busybox:latest` */
export function canonicalName(reference: Reference): string {
  return canonicalRepository(reference) + suffix(reference);
}
/** `busybox:latest` */
export function familiarName(reference: Reference): string {
  return familiarRepository(reference) + suffix(reference);
}
