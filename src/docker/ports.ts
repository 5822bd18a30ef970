/** `5000` is `5000/tcp`. */
export function portKey(port: string): string {
  return port.includes('/') ? port : `${port}/tcp`;
}

/** `80/tcp` taken apart. */
export function splitTarget(text: string): { port: number; protocol: 'tcp' | 'udp' | 'sctp' } {
  const [port = '0', protocol = 'tcp'] = text.split('/');
  return { port: Number(port), protocol: protocol as 'tcp' };
}
