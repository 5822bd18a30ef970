/** The host part of a create request, as the API has it: docker describes each field, and leaves it open. */

// oxlint-disable-next-line typescript/no-explicit-any -- docker's bodies are open
export type Body = any;

export interface HostConfigBody {
  [key: string]: Body;
}
