/**
 * By what an S3 store is reached, as Amazon's own clients have it: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
 * AWS_SESSION_TOKEN, or the profile (AWS_PROFILE) of ~/.aws/credentials; AWS_REGION, AWS_DEFAULT_REGION or
 * ~/.aws/config; AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL for a store that is not Amazon's.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { readIfExists } from '#os/files.ts';

export interface S3Access {
  /** Without a slash at its end. */
  endpoint: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** Settings of one section of a file of Amazon's form. */
function settingsOf(path: string, section: string): Record<string, string> {
  const out: Record<string, string> = {};
  let isIn = false;
  for (const line of (readIfExists(path) ?? '').split(/\r?\n/)) {
    const title = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line)?.[1];
    if (title !== undefined) isIn = title === section;
    const [, name, value] = /^\s*([A-Za-z0-9_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (isIn && name !== undefined && value !== undefined) out[name.toLowerCase()] = value;
  }
  return out;
}

/** Throws BadRequest where there are no credentials, or the endpoint is no URL. */
export function s3AccessOf(environment: Readonly<Record<string, string | undefined>>): S3Access {
  const given = (name: string): string | undefined => environment[name] || undefined;
  const home = join(given('HOME') ?? homedir(), '.aws');
  const profile = given('AWS_PROFILE') ?? 'default';
  const credentials = settingsOf(given('AWS_SHARED_CREDENTIALS_FILE') ?? join(home, 'credentials'), profile);
  const config = settingsOf(
    given('AWS_CONFIG_FILE') ?? join(home, 'config'),
    profile === 'default' ? profile : `profile ${profile}`,
  );
  const isInEnvironment = given('AWS_ACCESS_KEY_ID') !== undefined;
  const of = (name: string): string | undefined =>
    isInEnvironment ? given(name.toUpperCase()) : (credentials[name] ?? config[name]);
  const [accessKeyId, secretAccessKey] = [of('aws_access_key_id'), of('aws_secret_access_key')];
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw new ApiError(
      'BadRequest',
      `s3:// needs credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile ${profile} in ${join(home, 'credentials')}`,
    );
  const sessionToken = of('aws_session_token');
  const region = given('AWS_REGION') ?? given('AWS_DEFAULT_REGION') ?? config['region'] ?? 'us-east-1';
  const endpoint =
    given('AWS_ENDPOINT_URL_S3') ??
    given('AWS_ENDPOINT_URL') ??
    config['endpoint_url'] ??
    `https://s3.${region}.amazonaws.com`;
  if (!/^https?:\/\/[^/?#]/.test(endpoint) || !URL.canParse(endpoint))
    throw new ApiError('BadRequest', `AWS_ENDPOINT_URL: ${JSON.stringify(endpoint)} is no URL of a store`);
  return {
    endpoint: endpoint.replace(/\/+$/, ''),
    ...{ region, accessKeyId, secretAccessKey },
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
}
