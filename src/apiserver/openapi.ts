/** OpenAPI documents. */
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, ApiResponse } from '#base/api-request.ts';
import type { Server } from './context.ts';

export function serveOpenApi(_server: Server, _request: ApiRequest, _parts: readonly string[]): ApiResponse {
  throw new ApiError('NotFound', 'the server could not find the requested resource', {});
}
