/*
 * A client of Docker's API that is never the limit: HTTP/1.1 on a unix socket, bodies read and not kept, times taken by
 * the monotonic clock around each request.
 *
 *   api-client SOCKET STEP…              one after the other, on one connection as long as the server keeps it
 *   api-client --together SOCKET STEP…   all at once, each on a connection of its own
 *
 * A STEP is "METHOD PATH", "METHOD PATH BODY" (JSON), or "METHOD PATH <FILE" (a tar archive). "@" in a path is the last
 * "Id" that was answered. Prints a line for each step, STATUS MILLISECONDS BYTES ID, and at the end "total MILLISECONDS".
 * An answer of 400 and more, or one whose stream of JSON tells of an error, is printed to standard error: exit status 1.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { chunk_bytes = 1 << 18, kept_bytes = 4096 };

struct connection {
  int fd;
  size_t at, end;
  char data[chunk_bytes];
};

struct step {
  const char *text;
  int status;
  double ms;
  long bytes;
  char id[80];
  char kept[kept_bytes + 1];
  size_t kept_length;
};

static const char *socket_path;

static void fail(const char *what) {
  perror(what);
  exit(2);
}

static double now_ms(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

static void open_connection(struct connection *to) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(socket_path) >= sizeof address.sun_path) {
    fprintf(stderr, "the path of the socket is too long\n");
    exit(2);
  }
  strcpy(address.sun_path, socket_path);
  to->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  to->at = to->end = 0;
  if (to->fd < 0 || connect(to->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
}

static void close_connection(struct connection *of) {
  close(of->fd);
  of->fd = -1;
}

/* False at the end of what the server sends. */
static int fill(struct connection *from) {
  ssize_t got = read(from->fd, from->data, sizeof from->data);
  if (got < 0) fail("read");
  from->at = 0;
  from->end = (size_t)got;
  return got > 0;
}

static void read_line(struct connection *from, char *line, size_t size) {
  size_t length = 0;
  for (;;) {
    if (from->at == from->end && !fill(from)) {
      fprintf(stderr, "the server ended the connection within an answer\n");
      exit(2);
    }
    char byte = from->data[from->at++];
    if (byte == '\n') break;
    if (byte != '\r' && length + 1 < size) line[length++] = byte;
  }
  line[length] = 0;
}

/* The first and the last bytes are kept: the first hold an Id, the last tell of an error. */
static void keep(struct step *step, const char *data, size_t length) {
  step->bytes += (long)length;
  size_t half = kept_bytes / 2;
  while (length > 0) {
    if (step->kept_length == kept_bytes) {
      memmove(step->kept + half, step->kept + half + half / 2, half / 2);
      step->kept_length -= half / 2;
      if (length > half) data += length - half, length = half;
    }
    size_t part = kept_bytes - step->kept_length < length ? kept_bytes - step->kept_length : length;
    memcpy(step->kept + step->kept_length, data, part);
    step->kept_length += part, data += part, length -= part;
  }
  step->kept[step->kept_length] = 0;
}

/* `length` bytes; those until the end of the connection where it is negative. */
static void read_body(struct connection *from, struct step *step, long length) {
  while (length != 0) {
    if (from->at == from->end && !fill(from)) {
      if (length < 0) return;
      fprintf(stderr, "the answer is shorter than it says\n");
      exit(2);
    }
    size_t part = from->end - from->at;
    if (length > 0 && (long)part > length) part = (size_t)length;
    keep(step, from->data + from->at, part);
    from->at += part;
    if (length > 0) length -= (long)part;
  }
}

static void read_answer(struct connection *from, struct step *step) {
  char line[4096];
  long length = -1;
  int chunked = 0, closes = 0;
  read_line(from, line, sizeof line);
  if (sscanf(line, "HTTP/1.%*d %d", &step->status) != 1) {
    fprintf(stderr, "not an answer of HTTP: %s\n", line);
    exit(2);
  }
  for (read_line(from, line, sizeof line); line[0] != 0; read_line(from, line, sizeof line)) {
    if (strncasecmp(line, "content-length:", 15) == 0) length = atol(line + 15);
    if (strncasecmp(line, "transfer-encoding:", 18) == 0) chunked = strcasestr(line, "chunked") != NULL;
    if (strncasecmp(line, "connection:", 11) == 0) closes = strcasestr(line, "close") != NULL;
  }
  if (step->status == 204 || step->status == 304) length = 0;
  if (chunked) {
    for (;;) {
      read_line(from, line, sizeof line);
      length = strtol(line, NULL, 16);
      if (length == 0) break;
      read_body(from, step, length);
      read_line(from, line, sizeof line);
    }
    read_line(from, line, sizeof line);
  } else read_body(from, step, length);
  if (closes || (!chunked && length < 0)) close_connection(from);
}

static void write_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t put = write(fd, data, length);
    if (put < 0) fail("write");
    data += put, length -= (size_t)put;
  }
}

static void send_request(struct connection *to, const char *text, const char *id) {
  char method[16], path[2048], whole[4096];
  int used = 0;
  if (sscanf(text, "%15s %2047s%n", method, path, &used) != 2) {
    fprintf(stderr, "no request: %s\n", text);
    exit(2);
  }
  const char *body = text + used + (text[used] == ' ');
  int file = body[0] == '<' ? open(body + 1, O_RDONLY | O_CLOEXEC) : -1;
  struct stat about = {0};
  if (body[0] == '<' && (file < 0 || fstat(file, &about) < 0)) fail(body + 1);
  size_t length = file < 0 ? strlen(body) : (size_t)about.st_size;
  const char *mark = strchr(path, '@');
  int head = snprintf(whole, sizeof whole, "%s %.*s%s%s HTTP/1.1\r\nHost: docker\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                      method, mark == NULL ? (int)strlen(path) : (int)(mark - path), path, mark == NULL ? "" : id,
                      mark == NULL ? "" : mark + 1, file < 0 ? "application/json" : "application/x-tar", length);
  write_all(to->fd, whole, (size_t)head);
  if (file < 0) write_all(to->fd, body, length);
  else {
    for (off_t sent = 0; sent < about.st_size;)
      if (sendfile(to->fd, file, &sent, (size_t)(about.st_size - sent)) < 0) fail("sendfile");
    close(file);
  }
}

static void run_step(struct connection *with, struct step *step, const char *id) {
  double begun = now_ms();
  if (with->fd < 0) open_connection(with);
  send_request(with, step->text, id);
  read_answer(with, step);
  step->ms = now_ms() - begun;
  const char *found = strstr(step->kept, "\"Id\":\"");
  snprintf(step->id, sizeof step->id, "%s", id);
  if (found != NULL) sscanf(found + 6, "%79[^\"]", step->id);
}

static void *run_alone(void *argument) {
  struct connection *with = malloc(sizeof *with);
  if (with == NULL) fail("malloc");
  with->fd = -1;
  run_step(with, argument, "");
  free(with);
  return NULL;
}

int main(int count, char **words) {
  int together = count > 1 && strcmp(words[1], "--together") == 0;
  int first = 2 + together, steps_count = count - first;
  if (steps_count < 1) {
    fprintf(stderr, "usage: api-client [--together] SOCKET STEP...\n");
    return 2;
  }
  socket_path = words[first - 1];
  struct step *steps = calloc((size_t)steps_count, sizeof *steps);
  pthread_t *threads = calloc((size_t)steps_count, sizeof *threads);
  static struct connection one = {.fd = -1};
  if (steps == NULL || threads == NULL) fail("calloc");
  for (int i = 0; i < steps_count; i++) steps[i].text = words[first + i];
  double begun = now_ms();
  for (int i = 0; i < steps_count; i++) {
    if (!together) run_step(&one, &steps[i], i == 0 ? "" : steps[i - 1].id);
    else if (pthread_create(&threads[i], NULL, run_alone, &steps[i]) != 0) fail("pthread_create");
  }
  for (int i = 0; together && i < steps_count; i++) pthread_join(threads[i], NULL);
  double total = now_ms() - begun;
  int failed = 0;
  for (int i = 0; i < steps_count; i++) {
    printf("%d %.3f %ld %s\n", steps[i].status, steps[i].ms, steps[i].bytes, steps[i].id);
    int is_stream = strstr(steps[i].text, "/images/") != NULL;
    if (steps[i].status < 400 && !(is_stream && strstr(steps[i].kept, "\"errorDetail\"") != NULL)) continue;
    fprintf(stderr, "%s: %d %s\n", steps[i].text, steps[i].status, steps[i].kept);
    failed = 1;
  }
  printf("total %.3f\n", total);
  return failed;
}
