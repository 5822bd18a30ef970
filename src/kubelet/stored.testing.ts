/** For tests: what the API server adds to the metadata of an object. */
export const stored = Object.freeze({
  namespace: 'default',
  uid: 'u',
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
});
