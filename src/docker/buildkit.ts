/**
 * The doors of BuildKit's clients (buildx, bake, compose): `POST /grpc`, on which we serve, and `POST /session`, on
 * which the client serves its files and secrets. Both connections are taken over as HTTP/2 without TLS. A client of
 * BuildKit's own (`buildctl`, buildx's driver `remote`) speaks HTTP/2 from the first byte.
 */
import type { Duplex } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import type { Builder } from '#build/builder.ts';
import { serveGrpc } from '#build/grpc/grpc.ts';
import { buildServices } from '#build/grpc/services.ts';
import { Sessions } from '#build/grpc/session.ts';
import type { Clock } from '#os/clock.ts';
import type { Route, RouteContext } from './route.ts';

export interface BuildkitParts {
  builder: Builder;
  clock: Clock;
  version: string;
}

function checkUpgrade({ request }: RouteContext): void {
  const protocol = request.headers.upgrade;
  if (protocol === undefined) throw new ApiError('BadRequest', 'no upgrade proto in request');
  if (protocol !== 'h2c') throw new ApiError('BadRequest', `protocol ${protocol.slice(0, 50)} not supported`);
}

/** A header's value; encoded as in a URL where the one beside it says so. */
function header({ request }: RouteContext, name: string): string {
  const value = String(request.headers[name] ?? '');
  if (request.headers[`${name}-encoded`] !== 'true') return value;
  try {
    return decodeURIComponent(value);
  } catch {
    throw new ApiError('BadRequest', `malformed header ${name}`);
  }
}

export interface BuildkitDoors {
  routes: Route[];
  serveHttp2: (socket: Duplex) => void;
}

export function openBuildkitDoors(parts: BuildkitParts): BuildkitDoors {
  const sessions = new Sessions(parts.clock);
  const services = buildServices({ ...parts, sessions });
  const routes: Route[] = [
    {
      method: 'POST',
      path: '/grpc',
      async handle(context) {
        checkUpgrade(context);
        serveGrpc(await context.hijack(), services);
      },
    },
    {
      method: 'POST',
      path: '/session',
      async handle(context) {
        checkUpgrade(context);
        const id = header(context, 'x-docker-expose-session-uuid');
        sessions.check(id);
        const methods = header(context, 'x-docker-expose-session-grpc-method').split(/,\s*/);
        const place = header(context, 'x-docker-expose-session-sharedkey');
        sessions.add(await context.hijack(), { id, place, methods });
      },
    },
  ];
  return { routes, serveHttp2: (socket) => serveGrpc(socket, services) };
}
