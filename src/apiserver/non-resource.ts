/** Paths that are no resources: discovery, health, version, metrics, OpenAPI, keys. */
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, ApiResponse } from '#base/api-request.ts';
import { issuerOf } from './authn/authenticate.ts';
import type { Server } from './context.ts';
import { serveApi, serveApis, serveGroup, serveGroupVersion } from './discovery.ts';
import { answerJson, answerText } from './respond.ts';
import { defaultGitVersion } from './version.ts';

function serveVersion(server: Server): ApiResponse {
  const gitVersion = server.options.gitVersion ?? defaultGitVersion;
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(gitVersion) ?? ['', '1', '37'];
  return answerJson({
    major,
    minor,
    emulationMajor: major,
    emulationMinor: minor,
    minCompatibilityMajor: major,
    minCompatibilityMinor: String(Number(minor) - 1),
    gitVersion,
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: '',
    compiler: '',
    platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
  });
}

const healthPaths = ['healthz', 'livez', 'readyz'];

/**
 * `/healthz`, `/livez`, `/readyz` (Kubernetes, "API health endpoints"), whole or one check of them. `etcd` is the
 * store, by the name that monitoring knows: it fails while no write succeeds. Why is in the log alone, as anybody may
 * ask.
 */
async function serveHealth(server: Server, request: ApiRequest, parts: readonly string[]): Promise<ApiResponse> {
  const [endpoint = '', only] = parts;
  const checks: [string, () => Promise<string | undefined>][] = [
    ['ping', async () => undefined],
    ['log', async () => undefined],
    ['etcd', () => server.store.health()],
  ];
  const excluded = new Set(request.query.getAll('exclude'));
  const chosen = checks.filter(([name]) => (only === undefined ? !excluded.has(name) : name === only));
  if (only !== undefined && (chosen.length === 0 || parts.length > 2))
    throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  const problems = await Promise.all(chosen.map(async ([, check]) => check()));
  const failed = problems.some((problem) => problem !== undefined);
  chosen.forEach(([name], i) => {
    if (problems[i] !== undefined)
      server.log.warn('health check failed', { endpoint, check: name, problem: problems[i] });
  });
  if (!failed && !request.query.has('verbose')) return answerText('ok');
  const lines = chosen.map(([name], i) =>
    problems[i] === undefined ? `[+]${name} ok` : `[-]${name} failed: reason withheld`,
  );
  return answerText(`${lines.join('\n')}\n${endpoint} check ${failed ? 'failed' : 'passed'}\n`, failed ? 500 : 200);
}

async function serveFlowControlDump(server: Server, { query }: ApiRequest, name: string): Promise<string | undefined> {
  const { clock, flowControl } = server;
  const { dumpFlowControl } = await import('./flow-control/dump.ts');
  const withDetails = (query.get('includeRequestDetails') ?? '') !== '';
  return dumpFlowControl(flowControl, name, { offsetMs: clock.now() - clock.monotonic(), withDetails });
}

export async function serveNonResource(server: Server, request: ApiRequest): Promise<ApiResponse> {
  const path = request.path.length > 1 ? request.path.replace(/\/+$/, '') : request.path;
  const parts = path.split('/').filter((p) => p !== '');
  if (healthPaths.includes(parts[0] ?? '')) return serveHealth(server, request, parts);
  if (path === '/version') return serveVersion(server);
  if (path === '/api') return serveApi(server, request);
  if (path === '/apis') return serveApis(server, request);
  const [first, second = '', third = ''] = parts;
  if (first === 'api' && parts.length === 2) return serveGroupVersion(server, '', second);
  if (first === 'apis' && parts.length === 2) return serveGroup(server, second);
  if (first === 'apis' && parts.length === 3) return serveGroupVersion(server, second, third);
  if (first === 'openapi') return (await import('./openapi.ts')).serveOpenApi(server, request, parts);
  if (first === 'debug' && second === 'api_priority_and_fairness' && parts.length === 3) {
    const text = await serveFlowControlDump(server, request, third);
    if (text !== undefined) return answerText(text);
  }
  if (path === '/metrics') return (await import('./metrics.ts')).serveMetrics(server.metrics);
  if (path === '/.well-known/openid-configuration')
    return answerJson({
      issuer: issuerOf(server),
      jwks_uri: `${issuerOf(server)}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['ES256'],
    });
  if (path === '/openid/v1/jwks')
    return answerJson(server.tokens.jwks(), 200, { 'content-type': 'application/jwk-set+json' });
  if (path === '/')
    return answerJson({
      paths: [
        '/api',
        '/api/v1',
        '/apis',
        ...server.kinds
          .groups()
          .filter((g) => g.group !== '')
          .flatMap((g) => [`/apis/${g.group}`, ...g.versions.map((v) => `/apis/${g.group}/${v.version}`)]),
        '/healthz',
        '/livez',
        '/metrics',
        '/openapi/v2',
        '/openapi/v3',
        '/readyz',
        '/version',
      ],
    });
  throw new ApiError('NotFound', 'the server could not find the requested resource', {});
}
