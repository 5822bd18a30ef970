/** Errors of the distribution specification: `{errors: [{code, message, detail}]}` (section "Error Codes"). */
export type RegistryCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'SIZE_INVALID'
  | 'UNAUTHORIZED'
  | 'DENIED'
  | 'UNSUPPORTED'
  | 'TOOMANYREQUESTS'
  | 'PAGINATION_NUMBER_INVALID'
  | 'TAG_INVALID'
  | 'RANGE_INVALID'
  | 'UNKNOWN';

const texts: Record<RegistryCode, [number, string]> = {
  BLOB_UNKNOWN: [404, 'blob unknown to registry'],
  BLOB_UPLOAD_INVALID: [400, 'blob upload invalid'],
  BLOB_UPLOAD_UNKNOWN: [404, 'blob upload unknown to registry'],
  DIGEST_INVALID: [400, 'provided digest did not match uploaded content'],
  MANIFEST_BLOB_UNKNOWN: [404, 'manifest references a manifest or blob unknown to registry'],
  MANIFEST_INVALID: [400, 'manifest invalid'],
  MANIFEST_UNKNOWN: [404, 'manifest unknown'],
  NAME_INVALID: [400, 'invalid repository name'],
  NAME_UNKNOWN: [404, 'repository name not known to registry'],
  SIZE_INVALID: [400, 'provided length did not match content length'],
  UNAUTHORIZED: [401, 'authentication required'],
  DENIED: [403, 'requested access to the resource is denied'],
  UNSUPPORTED: [405, 'The operation is unsupported.'],
  TOOMANYREQUESTS: [429, 'too many requests'],
  PAGINATION_NUMBER_INVALID: [400, 'invalid number of results requested'],
  TAG_INVALID: [400, 'manifest tag did not match URI'],
  RANGE_INVALID: [416, 'invalid content range'],
  UNKNOWN: [500, 'unknown error'],
};

export class RegistryError extends Error {
  readonly code: RegistryCode;
  readonly status: number;
  readonly headers: Record<string, string>;
  constructor(
    code: RegistryCode,
    message?: string,
    options: { status?: number; headers?: Record<string, string> } = {},
  ) {
    super(message ?? texts[code][1]);
    this.name = 'RegistryError';
    this.code = code;
    this.status = options.status ?? texts[code][0];
    this.headers = options.headers ?? {};
  }
  toBody(): string {
    return `${JSON.stringify({ errors: [{ code: this.code, message: this.message, detail: null }] })}\n`;
  }
}
