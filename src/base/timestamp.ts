/** Times as objects carry them (RFC 3339, UTC). */
let lastSecond = NaN;
let lastText = '';

/** To the second, as `metav1.Time` prints; writes come in bursts, so that the last answer often serves again. */
export function timestamp(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== lastSecond) {
    lastText = `${new Date(second * 1000).toISOString().slice(0, 19)}Z`;
    lastSecond = second;
  }
  return lastText;
}

/** To the microsecond: Leases and events.k8s.io. */
export function microTimestamp(ms: number): string { return `${new Date(ms).toISOString().slice(0, 23)}000Z`; }
