/** What authorizers are asked about: who does what to which object, or to which path. */
import type { UserInfo } from '#base/api-request.ts';

export interface Attributes {
  user: UserInfo;
  verb: string;
  isResource: boolean;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  /** The one node whose objects are asked for, where a field selector says so. */
  selectedNode?: string;
  path: string;
}
