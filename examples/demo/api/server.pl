#!/usr/bin/perl
# A small HTTP server with a fixed number of workers. GET / counts a visit in the store and answers JSON; GET /healthz answers at once.
# After SIGTERM it finishes: every connection gets its answer, with "Connection: close", and idle ones are closed after two seconds.
use strict; use warnings;
use IO::Socket::INET; use IO::Select; use POSIX qw(:sys_wait_h);

my $port = $ENV{PORT} // 8080; my $workers = $ENV{WORKERS} // 24; my $version = $ENV{VERSION} // 'v1'; my $host = do { open my $file, "<", "/etc/hostname"; my $name = <$file> // "unknown"; chomp $name; $name };
my $greeting = $ENV{GREETING} // 'hello';
my $listen = IO::Socket::INET->new(LocalPort => $port, Listen => 512, ReuseAddr => 1) or die "listen on $port: $!";
my $ending = 0;
my %child;
$SIG{TERM} = sub { $ending = 1; kill TERM => keys %child };
$| = 1; print "version $version listens on $port with $workers workers\n";

sub store_command {
  my ($socket, @words) = @_;
  my $text = '*' . @words . "\r\n" . join('', map { '$' . length($_) . "\r\n$_\r\n" } @words);
  print {$socket} $text or return; my $line = <$socket>; return unless defined $line;
  $line =~ s/\r\n$//; return $line =~ /^[:+](.*)/ ? $1 : undef;
}

sub visit {
  my ($store) = @_;
  for my $try (1, 2) {
    $$store //= IO::Socket::INET->new(PeerAddr => $ENV{STORE}, Timeout => 1) or return;
    my $password = $ENV{STORE_PASSWORD};
    if (!${*{$$store}}{ready}) { ${*{$$store}}{ready} = 1; store_command($$store, 'AUTH', $password) if defined $password }
    my $count = store_command($$store, 'INCR', 'visits'); return $count if defined $count;
    $$store = undef;
  }
  return;
}

sub serve {
  my ($client, $store) = @_;
  $client->autoflush(1);
  my $select = IO::Select->new($client); my $buffer = '';
  while (1) {
    while ($buffer !~ /\r\n\r\n/) {
      my $waited = 0;
      until ($select->can_read(0.2)) { $waited += 0.2; return if $waited >= ($ending ? 2 : 30) }
      sysread($client, $buffer, 65536, length $buffer) or return;
      return if length $buffer > 65536;
    }
    $buffer =~ s/^(.*?)\r\n\r\n//s; my $head = $1;
    my ($path) = $head =~ m{^\w+ (\S+)}; my $close = $ending || $head =~ /^connection:\s*close/mi || $head =~ m{HTTP/1\.0};
    my ($status, $body);
    if ($path =~ m{/healthz$}) { ($status, $body) = ('200 OK', "ok\n") }
    else {
      my $visits = $path =~ m{/ping$} ? 0 : visit($store);
      $status = defined $visits ? '200 OK' : '503 Service Unavailable';
      $body = sprintf qq({"greeting":"%s","version":"%s","pod":"%s","visits":%s}\n), $greeting, $version, $host, $visits // 'null';
    }
    print {$client} "HTTP/1.1 $status\r\nContent-Type: application/json\r\nContent-Length: " . length($body) . "\r\n" . ($close ? "Connection: close\r\n" : '') . "\r\n$body" or return;
    return if $close;
  }
}

sub start_worker {
  my $pid = fork // die "fork: $!";
  if ($pid) { $child{$pid} = 1; return }
  %child = (); $SIG{TERM} = sub { $ending = 1 }; $SIG{PIPE} = 'IGNORE';
  my $store; my $select = IO::Select->new($listen); my $idle = 0;
  # After SIGTERM connections that wait in the backlog are still answered.
  while (1) {
    if (!$select->can_read($ending ? 0.2 : 5)) { last if $ending && ($idle += 0.2) >= 1; next }
    $listen->blocking(0); my $client = $listen->accept; $listen->blocking(1);
    next unless $client; $client->blocking(1); serve($client, \$store); close $client;
  }
  exit 0;
}

start_worker() for 1 .. $workers;
until ($ending) { my $pid = waitpid(-1, WNOHANG); if ($pid > 0) { delete $child{$pid}; start_worker() unless $ending } else { select undef, undef, undef, 0.5 } }
while (%child) { my $pid = waitpid(-1, 0); last if $pid < 0; delete $child{$pid} }
print "finished\n";
