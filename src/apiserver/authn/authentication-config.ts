/**
 * `AuthenticationConfiguration` of `apiserver.config.k8s.io`, and the same from the flags `--oidc-…` (Kubernetes,
 * "Authenticating"). What is wrong is told with its place, all at once.
 */
import { X509Certificate } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import { CompilationError, type Program } from '#cel/program.ts';
import { ConfigReader, type ConfigFields } from '../config-reader.ts';
import { readConfig } from '../read-config.ts';
import type { ServerFlags } from '../server-flags.ts';
import { compileClaims, type ClaimRules, type Mapping } from './claims.ts';
import { signingAlgorithms } from './jwt.ts';

export interface JwtConfig {
  url: string;
  discoveryUrl: string | undefined;
  ca: string | undefined;
  audiences: readonly string[];
  algorithms: readonly string[];
  rules: ClaimRules;
}

export interface AuthenticationConfig {
  jwt: readonly JwtConfig[];
  /** Paths at which somebody unknown may ask; undefined: at all of them, as the flag says. */
  anonymous: { enabled: boolean; paths: readonly string[] } | undefined;
}

const group = 'apiserver.config.k8s.io';
const versions = ['v1', 'v1beta1', 'v1alpha1'].map((version) => `${group}/${version}`);

/** Throws BadRequest. `ownIssuer` signs ServiceAccount tokens. */
export function parseAuthenticationConfig(text: string, file: string, ownIssuer: string): AuthenticationConfig {
  const reader = new ConfigReader(text, file, { apiVersion: versions, kind: 'AuthenticationConfiguration' });
  const top = reader.fields(reader.root, '', ['jwt', 'anonymous']);
  const jwt = top
    .objects('jwt')
    .map(([each, at]) =>
      readJwtConfig(
        reader.fields(each, at, ['issuer', 'claimValidationRules', 'claimMappings', 'userValidationRules']),
        reader,
        ownIssuer,
      ),
    );
  for (const field of ['url', 'discoveryUrl'] as const) {
    const seen = new Set<string>();
    jwt.forEach((each, i) => {
      const value = each[field];
      const at = `jwt[${i}].issuer.${field === 'url' ? 'url' : 'discoveryURL'}`;
      if (value !== undefined && value !== '' && seen.has(value)) reader.duplicate(at, value);
      if (value !== undefined) seen.add(value);
    });
  }
  const anonymous = readAnonymous(top, reader);
  reader.throwIfAny();
  return { jwt, anonymous };
}

function readAnonymous(top: ConfigFields, reader: ConfigReader): AuthenticationConfig['anonymous'] {
  const object = top.object('anonymous');
  if (object === undefined) return undefined;
  const fields = reader.fields(object, 'anonymous', ['enabled', 'conditions']);
  const paths = fields.objects('conditions').map(([each, at]) => reader.fields(each, at, ['path']).string('path'));
  const enabled = fields.boolean('enabled') ?? false;
  if (!enabled && paths.length > 0)
    reader.invalid('anonymous.conditions', paths, 'enabled should be set to true when conditions are defined');
  return { enabled, paths };
}

function readJwtConfig(fields: ConfigFields, reader: ConfigReader, ownIssuer: string): JwtConfig {
  const issuer = reader.fields(fields.object('issuer') ?? {}, fields.at('issuer'), [
    'url',
    'discoveryURL',
    'certificateAuthority',
    'audiences',
    'audienceMatchPolicy',
  ]);
  const url = issuer.string('url');
  checkUrl(reader, issuer.at('url'), url, ownIssuer);
  const discoveryUrl = issuer.has('discoveryURL') ? issuer.string('discoveryURL') : undefined;
  if (discoveryUrl !== undefined) {
    if (discoveryUrl === url)
      reader.invalid(issuer.at('discoveryURL'), discoveryUrl, 'discoveryURL must be different from URL');
    checkUrl(reader, issuer.at('discoveryURL'), discoveryUrl, '');
  }
  const ca = issuer.has('certificateAuthority') ? issuer.string('certificateAuthority') : undefined;
  if (ca !== undefined && !isCertificate(ca))
    reader.invalid(
      issuer.at('certificateAuthority'),
      '<omitted>',
      'data does not contain any valid RSA or ECDSA certificates',
    );
  return {
    url,
    discoveryUrl,
    ca,
    audiences: readAudiences(issuer, reader),
    algorithms: signingAlgorithms,
    rules: readRules(fields, reader),
  };
}

function checkUrl(reader: ConfigReader, at: string, url: string, ownIssuer: string): void {
  if (url === '') return reader.required(at);
  if (url === ownIssuer) reader.invalid(at, url, `URL must not overlap with disallowed issuers: [${ownIssuer}]`);
  if (!URL.canParse(url)) return reader.invalid(at, url, 'invalid URI for request');
  const { protocol, username, password } = new URL(url);
  if (protocol !== 'https:') reader.invalid(at, url, 'URL scheme must be https');
  if (username !== '' || password !== '') reader.invalid(at, url, 'URL must not contain a username or password');
  if (url.includes('?')) reader.invalid(at, url, 'URL must not contain a query');
  if (url.includes('#')) reader.invalid(at, url, 'URL must not contain a fragment');
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== '';
  } catch {
    return false;
  }
}

function readAudiences(issuer: ConfigFields, reader: ConfigReader): string[] {
  const at = issuer.at('audiences');
  const audiences = issuer.strings('audiences');
  if (audiences.length === 0) reader.required(at, `at least one ${at} is required`);
  audiences.forEach((audience, i) => {
    if (audience === '') reader.required(`${at}[${i}]`);
    else if (audiences.indexOf(audience) < i) reader.duplicate(`${at}[${i}]`, audience);
  });
  const policy = issuer.string('audienceMatchPolicy');
  const where = issuer.at('audienceMatchPolicy');
  if (audiences.length > 1 && policy !== 'MatchAny')
    reader.invalid(where, policy, 'audienceMatchPolicy must be MatchAny for multiple audiences');
  if (audiences.length === 1 && policy !== '' && policy !== 'MatchAny')
    reader.invalid(where, policy, 'audienceMatchPolicy must be empty or MatchAny for single audience');
  return audiences;
}

/** Undefined where it is wrong, which is told. */
function compiled(reader: ConfigReader, at: string, source: string, variable: 'claims' | 'user'): Program | undefined {
  try {
    return compileClaims(source, variable);
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    reader.invalid(at, source, error.message);
    return undefined;
  }
}

function readRules(fields: ConfigFields, reader: ConfigReader): ClaimRules {
  const required: { claim: string; value: string }[] = [];
  const validations: { program: Program; message: string }[] = [];
  for (const [each, at] of fields.objects('claimValidationRules')) {
    const rule = reader.fields(each, at, ['claim', 'requiredValue', 'expression', 'message']);
    const [claim, expression] = [rule.string('claim'), rule.string('expression')];
    if (claim !== '' && expression !== '') reader.invalid(at, claim, "claim and expression can't both be set");
    else if (claim === '' && expression === '') reader.required(at, 'claim or expression is required');
    else if (claim !== '') {
      if (rule.has('message'))
        reader.invalid(rule.at('message'), rule.string('message'), 'may not be specified when claim is set');
      required.push({ claim, value: rule.string('requiredValue') });
    } else {
      if (rule.has('requiredValue'))
        reader.invalid(
          rule.at('requiredValue'),
          rule.string('requiredValue'),
          'may not be specified when expression is set',
        );
      const program = compiled(reader, rule.at('expression'), expression, 'claims');
      if (program !== undefined) validations.push({ program, message: rule.string('message') });
    }
  }
  return {
    required,
    validations,
    ...readMappings(fields, reader, validations),
    userValidations: readUserRules(fields, reader),
  };
}

function readUserRules(fields: ConfigFields, reader: ConfigReader): ClaimRules['userValidations'] {
  return fields.objects('userValidationRules').flatMap(([each, at]) => {
    const rule = reader.fields(each, at, ['expression', 'message']);
    if (rule.string('expression') === '') {
      reader.required(rule.at('expression'), 'expression is required');
      return [];
    }
    const program = compiled(reader, rule.at('expression'), rule.string('expression'), 'user');
    return program === undefined ? [] : [{ program, message: rule.string('message') }];
  });
}

type Mappings = Pick<ClaimRules, 'username' | 'groups' | 'uid' | 'extra'>;
const noMapping: Mapping = { claim: '', prefix: '' };

function readMappings(fields: ConfigFields, reader: ConfigReader, validations: ClaimRules['validations']): Mappings {
  const mappings = reader.fields(fields.object('claimMappings') ?? {}, fields.at('claimMappings'), [
    'username',
    'groups',
    'uid',
    'extra',
  ]);
  const username = readMapping(mappings, reader, 'username', true);
  if (username === undefined) reader.required(mappings.at('username'), 'claim or expression is required');
  const extra = mappings.objects('extra').flatMap(([each, at]) => {
    const field = reader.fields(each, at, ['key', 'valueExpression']);
    const [key, source] = [field.string('key'), field.string('valueExpression')];
    if (key === '') reader.required(field.at('key'));
    else if (!/^[a-z0-9.-]+\/[^A-Z\s]+$/.test(key))
      reader.invalid(field.at('key'), key, 'must be a domain-prefixed path in lower case');
    else if (/(^|\.)(kubernetes|k8s)\.io\//.test(key))
      reader.invalid(
        field.at('key'),
        key,
        'k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use',
      );
    if (source === '') reader.required(field.at('valueExpression'), 'valueExpression is required');
    const program = source === '' ? undefined : compiled(reader, field.at('valueExpression'), source, 'claims');
    return program === undefined ? [] : [{ key, program }];
  });
  const groups = readMapping(mappings, reader, 'groups', true);
  const uid = readMapping(mappings, reader, 'uid', false);
  checkVerified(reader, mappings.at('username.expression'), username, [
    ...validations.map(({ program }) => program),
    ...extra.map(({ program }) => program),
  ]);
  return { username: username ?? noMapping, groups, uid, extra };
}

/** Whoever is named by an address must also look at whether it was verified. */
function checkVerified(
  reader: ConfigReader,
  at: string,
  username: Mapping | undefined,
  others: readonly Program[],
): void {
  if (username === undefined || !('program' in username) || !/claims\s*\.\s*email\b(?!_)/.test(username.program.source))
    return;
  if ([username.program, ...others].some(({ source }) => source.includes('email_verified'))) return;
  reader.invalid(
    at,
    username.program.source,
    'claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression',
  );
}

function readMapping(
  mappings: ConfigFields,
  reader: ConfigReader,
  name: string,
  hasPrefix: boolean,
): Mapping | undefined {
  const object = mappings.object(name);
  if (object === undefined) return undefined;
  const at = mappings.at(name);
  const fields = reader.fields(object, at, ['claim', 'expression', ...(hasPrefix ? ['prefix'] : [])]);
  const [claim, expression] = [fields.string('claim'), fields.string('expression')];
  if (claim !== '' && expression !== '') reader.invalid(at, '', "claim and expression can't both be set");
  if (expression !== '') {
    if (hasPrefix && fields.has('prefix'))
      reader.invalid(fields.at('prefix'), fields.string('prefix'), "prefix can't be set when expression is set");
    const program = compiled(reader, fields.at('expression'), expression, 'claims');
    return program === undefined ? noMapping : { program };
  }
  if (claim === '') return undefined;
  if (hasPrefix && !fields.has('prefix'))
    reader.required(
      fields.at('prefix'),
      'prefix is required when claim is set. It can be set to an empty string to disable prefixing',
    );
  return { claim, prefix: hasPrefix ? fields.string('prefix') : '' };
}

/** The one issuer that the flags name; undefined where they name none. Throws BadRequest. */
export function jwtConfigOfFlags(flags: ServerFlags, ownIssuer: string): JwtConfig | undefined {
  const [url, client] = [flags.text('oidc-issuer-url'), flags.text('oidc-client-id')];
  if (url === '' && client === '') return undefined;
  const wrong = (text: string): ApiError => new ApiError('BadRequest', text);
  if (url === '' || client === '')
    throw wrong('oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set');
  if (!url.startsWith('https://') || !URL.canParse(url))
    throw wrong(`--oidc-issuer-url: URL scheme must be https: ${url}`);
  if (url === ownIssuer) throw wrong('--oidc-issuer-url must not be the issuer of ServiceAccount tokens');
  const algorithms = flags.has('oidc-signing-algs') ? flags.list('oidc-signing-algs') : ['RS256'];
  for (const each of algorithms)
    if (!signingAlgorithms.includes(each)) throw wrong(`--oidc-signing-algs: unsupported signing alg: ${each}`);
  const ca = flags.text('oidc-ca-file');
  const claim = flags.text('oidc-username-claim') || 'sub';
  const given = flags.text('oidc-username-prefix');
  const prefix = given === '-' ? '' : given === '' && claim !== 'email' ? `${url}#` : given;
  const groups = flags.text('oidc-groups-claim');
  const required = flags.each('oidc-required-claim').flatMap((pairs) =>
    pairs.split(',').map((pair) => {
      const cut = pair.indexOf('=');
      if (cut <= 0) throw wrong(`--oidc-required-claim: ${pair} must be formatted as key=value`);
      return { claim: pair.slice(0, cut), value: pair.slice(cut + 1) };
    }),
  );
  return {
    url,
    discoveryUrl: undefined,
    ca: ca === '' ? undefined : readConfig(ca, 'oidc-ca-file'),
    audiences: [client],
    algorithms,
    rules: {
      required,
      validations: [],
      username: { claim, prefix },
      groups: groups === '' ? undefined : { claim: groups, prefix: flags.text('oidc-groups-prefix') },
      uid: undefined,
      extra: [],
      userValidations: [],
    },
  };
}
