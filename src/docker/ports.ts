/** `80/tcp` taken apart. */
export function splitTarget(text: string): { port: number; protocol: 'tcp' | 'udp' | 'sctp' } {
  const [port = '0', protocol = 'tcp'] = text.split('/');
  return { port: Number(port), protocol: protocol as 'tcp' };
}
