/** How users of the registry are made: a route that only root's sockets have. */
import { ApiError } from '#base/errors.ts';
import type { Route } from '#docker/route.ts';
import type { Access } from '#registry/access.ts';

/**
 * Users of the registry are made by root, through the engine's socket; only a salted hash of the password is kept. The
 * first is an administrator.
 */
export function registryUserRoute(access: Access): Route {
  return {
    method: 'POST',
    path: '/tiphys/registry-users',
    async handle(context) {
      const { name, password, administrator } = (await context.json()) as {
        name?: unknown;
        password?: unknown;
        administrator?: unknown;
      };
      if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name))
        throw new ApiError(
          'BadRequest',
          "a user's name has 1 to 64 of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit",
        );
      if (typeof password !== 'string' || password.length < 8)
        throw new ApiError('BadRequest', 'a password has at least 8 characters');
      if (administrator !== undefined && typeof administrator !== 'boolean')
        throw new ApiError('BadRequest', 'administrator is true or false');
      const { isAdministrator } = await access.setUser(name, password, true, administrator);
      return { name, administrator: isAdministrator };
    },
  };
}
