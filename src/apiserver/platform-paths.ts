/**
 * Paths that the platform adds to the API server and that no rule of RBAC speaks of: each is for the members of one
 * group, which nobody may impersonate.
 */
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import type { PlatformPath } from './context.ts';
import { answerJson } from './respond.ts';

/** `user`: as authenticated. */
export async function servePlatformPath(
  { group, serve }: PlatformPath,
  request: ApiRequest,
  user: UserInfo,
): Promise<ApiResponse> {
  if (!user.groups.includes(group))
    throw new ApiError('Forbidden', `forbidden: User ${JSON.stringify(user.name)} cannot post path "${request.path}"`);
  if (request.method !== 'POST') throw new ApiError('MethodNotAllowed', `${request.path} takes POST`);
  // Neither what was sent nor what is answered is a part of the request, which may be audited.
  const bytes = request.readBody === undefined ? request.body : await request.readBody(user);
  return answerJson(await serve(parse(bytes ?? Buffer.from('{}'))));
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    const error = new ApiError('BadRequest', 'the body is no JSON');
    error.cause = cause;
    throw error;
  }
}
