/**
 * Authorisation plugins (`--authorization-plugin`): each is asked, in order, about every request before it is answered,
 * and about every answer that is not a stream before it is sent; the first that says no decides. One that cannot be
 * asked says no, too.
 *
 * Source: Docker documentation, "Access authorization plugin"; docker 28.5, pkg/authorization.
 */
import { X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { textOf, type JsonObject } from '#base/unknown.ts';
import type { Plugins } from '#plugins/plugins.ts';
import { authorizedBodyBytesMax } from './server-limits.ts';

/** What was decided about a request, for its answer. */
export interface Authorized {
  /** Throws ApiError Forbidden. `body`: JSON; absent for others. */
  checkAnswer(status: number, body: string | undefined): Promise<void>;
}

export interface Authorizer {
  /** True where somebody has to be asked. */
  isNeeded(): boolean;
  /** Throws ApiError Forbidden. `readBody` is called for JSON alone. */
  check(request: IncomingMessage, readBody: () => Promise<Buffer>): Promise<Authorized>;
}

/** `names`: of the plugins as they are asked now. */
export function createAuthorizer(plugins: Plugins, names: () => readonly string[]): Authorizer {
  const ask = async (verb: 'AuthZReq' | 'AuthZRes', body: object): Promise<void> => {
    for (const name of names()) {
      let answer: JsonObject;
      try {
        answer = await (await plugins.get(name, 'authz')).call(`AuthZPlugin.${verb}`, body);
      } catch (error) {
        throw new ApiError('InternalError', `plugin ${name} failed with error: ${messageOf(error)}`);
      }
      if (answer['Allow'] !== true)
        throw new ApiError('Forbidden', `authorization denied by plugin ${name}: ${textOf(answer, 'Msg') ?? ''}`);
    }
  };
  return {
    isNeeded: () => names().length > 0,
    async check(request, readBody) {
      const uri = request.url ?? '/';
      const showsBody = !/^\/(v\d[\d.]*\/)?auth/.test(uri);
      const isJson = /^application\/json\b/i.test(request.headers['content-type'] ?? '');
      const body = showsBody && isJson ? await readBody() : undefined;
      const asked = {
        ...userOf(request),
        RequestMethod: request.method ?? 'GET',
        RequestUri: uri,
        ...(body === undefined || body.length === 0 || body.length >= authorizedBodyBytesMax
          ? {}
          : { RequestBody: body.toString('base64') }),
        RequestHeaders: headersOf(request),
      };
      await ask('AuthZReq', asked);
      return {
        checkAnswer: (status, answer) =>
          ask('AuthZRes', {
            ...asked,
            ResponseStatusCode: status,
            ResponseHeaders: { 'Content-Type': 'application/json' },
            ...(answer === undefined || !showsBody ? {} : { ResponseBody: Buffer.from(answer).toString('base64') }),
          }),
      };
    },
  };
}

/** Of a client that showed a certificate. */
function userOf({ socket }: IncomingMessage): object {
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return {};
  const pem = new X509Certificate(certificate.raw).toString();
  return {
    User: /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? '',
    UserAuthNMethod: 'TLS',
    RequestPeerCertificates: [Buffer.from(pem).toString('base64')],
  };
}

const secretHeaders = new Set(['authorization', 'x-registry-config', 'x-registry-auth']);

/** With names as Go writes them, and without what signs somebody in. */
function headersOf({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => !secretHeaders.has(name))
      .map(([name, value]) => [
        name.replace(/(^|-)([a-z])/g, (_all, dash: string, letter: string) => dash + letter.toUpperCase()),
        [value ?? ''].flat().at(-1) ?? '',
      ]),
  );
}
