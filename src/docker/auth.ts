/** `docker login`: asks the registry whether a credential is right. Nothing is kept here; the client keeps it. */
import { ApiError } from '#base/errors.ts';
import { RemoteError, UnreachableError, endpointUrlOf } from '#content/remote.ts';
import { checkCredential } from '#content/registry-login.ts';
import { endpointsOf } from '#engine/images-sources.ts';
import type { ImageStore } from '#engine/images.ts';
import type { Access } from '#registry/access.ts';
import type { Route } from './route.ts';

export interface AuthParts {
  images: ImageStore;
  /** The registry of this process, asked without a connection. */ registry?: { access: Access; domains: string[] };
}

export function authRoutes(parts: AuthParts): Route[] {
  return [
    {
      method: 'POST',
      path: '/auth',
      async handle(context) {
        const body = (await context.json()) as { username?: string; password?: string; serveraddress?: string };
        const address =
          (body.serveraddress ?? '')
            .replace(/^https?:\/\//, '')
            .replace(/\/.*$/, '')
            .replace(/^index\.docker\.io$/, 'docker.io') || 'docker.io';
        const { username = '', password = '' } = body;
        const denied = (): never => {
          throw new ApiError(
            'Unauthorized',
            `Get "${endpointUrlOf(address)}/v2/": unauthorized: incorrect username or password`,
          );
        };
        if (parts.registry?.domains.includes(address) === true) {
          const identity = await parts.registry.access.identify(
            `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
            'docker socket',
          );
          if (identity === undefined || identity === 'anonymous') denied();
          return { Status: 'Login Succeeded', IdentityToken: '' };
        }
        const { options } = parts.images;
        let unreachable: UnreachableError | undefined;
        for (const endpoint of endpointsOf(options, address))
          try {
            await checkCredential(
              options.transport,
              { ...endpoint, credential: { username, password } },
              context.signal,
            );
            return { Status: 'Login Succeeded', IdentityToken: '' };
          } catch (error) {
            if (error instanceof RemoteError && (error.status === 401 || error.status === 403)) denied();
            if (error instanceof RemoteError) throw new ApiError('InternalError', error.message);
            if (!(error instanceof UnreachableError)) throw error;
            unreachable = error;
          }
        throw new ApiError('InternalError', unreachable?.message ?? `no way leads to ${address}`);
      },
    },
  ];
}
